"""A run that other threads change while it watches: a real model and threads, scripted frames."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pytest

import edge_runtime
from edge_runtime.app.live_display import NoDisplay
from edge_runtime.app.run.control import (
    MOST_QUERIES,
    Control,
    QueryChange,
    UnknownCameraError,
    UnknownQueryError,
)
from edge_runtime.app.run.handover import Handover
from edge_runtime.app.run.run_spec import WatchedCamera
from edge_runtime.app.run.runner import Runner
from edge_runtime.app.run.scheduler import round_robin
from edge_runtime.config.cameras import CameraConfig
from edge_runtime.engine.session import StreamSession
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event, EventMaker
from edge_runtime.sinks import Sinks
from tests.edge_runtime.list_sink import ListSink

ALWAYS = PolicySettings(threshold=0.0, repeat_s=0.0)
WHAT = QueryConfig("What does the person do?", policy=ALWAYS)
CARS = QueryConfig("How many red cars passed by?", policy=ALWAYS)


class Frame:
    captured_at = 0.0

    def __init__(self, index: int) -> None:
        self.index = index
        self.image = np.full((64, 64, 3), 37 * index % 256, np.uint8)


class HeldCamera:
    """Gives the next frame when the test says so, and ends when it says so."""

    live, description, decoder, dropped, reconnects = False, "held camera", "none", 0, 0
    resolution = (640, 360)

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._allowed = 0
        self._given = 0
        self._over = False

    def allow(self, count: int) -> None:
        self._allowed += count
        self._wake.set()

    def end(self) -> None:
        self._over = True
        self._wake.set()

    def read(self, timeout_s: float) -> Any:
        if self._given < self._allowed:
            self._given += 1
            return Frame(self._given - 1)
        if self._over:
            raise StopIteration
        return None

    def set_masks(self, masks: Any) -> None: ...

    def close(self) -> None: ...


class Run:
    """A run of one camera, ``door``, in a thread of its own."""

    def __init__(self, model, queries) -> None:
        self.wake = threading.Event()
        self.control = Control(self.wake.set)
        self.camera = HeldCamera(self.wake)
        self.sink = ListSink()
        self.runner = Runner(
            model, queries, EventMaker("door", "identity"), Sinks([self.control.sink, self.sink]), NoDisplay()
        )
        self.control.watch([WatchedCamera(CameraConfig("door", "test:"), self.runner, self.camera)])
        self.runner.begin(self.camera)
        self.thread = threading.Thread(
            target=round_robin,
            args=([self.runner],),
            kwargs={"wake": self.wake, "between": self.control.carry_out},
        )

    def frames(self, count: int) -> None:
        """Let so many more frames come and wait until they are decided on."""
        wanted = self.runner.telemetry.timesteps + count
        self.camera.allow(count)
        until = time.monotonic() + 30
        while self.runner.telemetry.timesteps < wanted:
            assert time.monotonic() < until and self.thread.is_alive()
            time.sleep(0.001)

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.sink.events if event["type"] == kind]

    def said(self, query: str) -> list[float]:
        return [event["time"] for event in self.events("response") if event["query"] == query]

    def actions(self) -> list[tuple[str, str, float]]:
        return [(event["query"], event["action"], event["time"]) for event in self.events("query")]


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return edge_runtime.load(tiny_bundle, threads=1)


@contextmanager
def running(model, *queries: QueryConfig) -> Iterator[Run]:
    run = Run(model, queries)
    run.thread.start()
    try:
        yield run
    finally:
        run.camera.end()
        run.thread.join(30)
        run.control.close()
    assert not run.thread.is_alive() and run.runner.error is None


def test_a_question_that_is_asked_is_in_force_at_the_next_timestep(model):
    with running(model, WHAT) as run:
        run.frames(3)
        status = run.control.ask("door", CARS)
        assert (status.id, status.text, status.asked, status.threshold) == ("q2", CARS.text, False, 0.0)
        run.frames(2)
        assert run.said("q1") == [1, 2, 3, 4, 5] and run.said("q2") == [4, 5]
        assert run.actions() == [("q1", "asked", 0.0), ("q2", "asked", 3.0)]
        first, second = run.control.queries("door")
        assert second.asked and second.score is not None and first.id == "q1"


def test_threshold_pause_and_withdrawal_take_effect_at_the_next_timestep(model):
    with running(model, WHAT, CARS) as run:
        run.frames(2)
        assert run.control.change("door", "q1", QueryChange(threshold=1.0)).threshold == 1.0
        assert run.control.change("door", "q2", QueryChange(paused=True)).paused
        run.frames(2)
        assert run.said("q1") == run.said("q2") == [1, 2]
        assert run.control.queries("door")[1].score is None
        run.control.change("door", "q1", QueryChange(policy=ALWAYS))
        run.control.change("door", "q2", QueryChange(paused=False))
        run.frames(2)
        assert run.said("q1") == run.said("q2") == [1, 2, 5, 6]
        run.control.withdraw("door", "q1")
        run.frames(1)
        assert run.said("q1") == [1, 2, 5, 6] and run.said("q2") == [1, 2, 5, 6, 7]
        assert run.control.ask("door", WHAT).id == "q3"  # an id is not given twice


def test_another_text_keeps_the_id_and_forgets_what_was_seen(model):
    with running(model, WHAT) as run:
        run.frames(2)
        status = run.control.change("door", "q1", QueryChange(text=CARS.text))
        assert (status.id, status.text) == ("q1", CARS.text)
        run.frames(2)
        assert [event["question"] for event in run.events("response")] == [WHAT.text] * 2 + [CARS.text] * 2
        assert run.actions() == [("q1", "asked", 0.0), ("q1", "removed", 2.0), ("q1", "asked", 2.0)]
        changed = [event["score"] for event in run.events("response")][2:]
    with running(model, WHAT) as other:
        other.frames(2)
        other.control.ask("door", CARS)
        other.frames(2)
        assert changed == [e["score"] for e in other.events("response") if e["query"] == "q2"]


def test_of_two_questions_with_one_text_the_one_that_is_meant_is_withdrawn(model):
    with running(model, WHAT, WHAT) as run:
        run.frames(1)
        run.control.withdraw("door", "q1")
        assert [query.id for query in run.control.queries("door")] == ["q2"]
        run.frames(1)
        assert run.said("q1") == [1] and run.said("q2") == [1, 2]


def test_a_paused_question_costs_nothing(model, monkeypatch):
    with running(model, WHAT) as run:
        run.frames(1)
        run.control.change("door", "q1", QueryChange(paused=True))
        calls = []
        monkeypatch.setattr(run.runner._vision, "encode", lambda pixels: calls.append("vision"))
        monkeypatch.setattr(
            run.runner.loop.queries[0].session, "push_tokens", lambda *_: calls.append("step")
        )
        run.frames(3)
        assert calls == [] and run.control.cameras()[0].timesteps == 4
        monkeypatch.undo()
        run.control.change("door", "q1", QueryChange(paused=False))
        run.frames(1)
        assert run.said("q1") == [1, 5]


def test_what_cannot_be_is_refused_and_changes_nothing(model):
    with running(model, WHAT) as run:
        with pytest.raises(UnknownCameraError, match=r"hall: no such camera is watched .there are: door.$"):
            run.control.ask("hall", CARS)
        with pytest.raises(UnknownQueryError, match=r"door: no query q7 .there are: q1.$"):
            run.control.withdraw("door", "q7")
        for text in ("", "word " * 2000, "\ud800"):
            with pytest.raises(ConfigError):
                run.control.ask("door", QueryConfig(text))
            with pytest.raises(ConfigError):
                run.control.change("door", "q1", QueryChange(text=text))
        with pytest.raises(ConfigError, match="threshold"):
            run.control.change("door", "q1", QueryChange(threshold=1.5))
        for _ in range(MOST_QUERIES - 1):
            run.control.ask("door", QueryConfig(CARS.text, at=1e9))
        with pytest.raises(ConfigError, match="withdraw one first"):
            run.control.ask("door", CARS)
        run.frames(2)
        assert run.said("q1") == [1, 2]


def test_the_state_of_the_cameras(model):
    with running(model, WHAT) as run:
        (before,) = run.control.cameras()
        assert (before.name, before.p50_ms, before.timesteps) == ("door", None, 0)
        assert run.control.latest_frame("door") is None
        run.frames(2)
        status = run.control.camera("door")
        assert (status.width, status.height, status.decoder, status.fps) == (640, 360, "none", 1.0)
        assert status.p50_ms > 0 and status.p99_ms >= status.p50_ms
        assert run.control.latest_frame("door").image[0, 0, 0] == 37


def test_events_and_scores_are_heard_until_the_subscription_ends(model):
    with running(model, WHAT, CARS) as run:
        events, scores = [], []
        ends = [run.control.subscribe(events.append), run.control.subscribe_scores(scores.append)]
        refused = []

        def changes_the_run(event: Event) -> None:
            try:
                run.control.withdraw("door", "q1")
            except EdgeError as err:
                refused.append(str(err))

        run.control.subscribe(changes_the_run)
        run.frames(2)
        for end in ends:
            end()
        run.frames(1)
        assert events == run.sink.events[: len(events)] and len(events) == 6
        assert all(event["stream"] == "door" and event["query"] for event in events)
        assert [(one.camera, one.time, [step.query for step in one.steps]) for one in scores] == [
            ("door", 1.0, ["q1", "q2"]),
            ("door", 2.0, ["q1", "q2"]),
        ]
        assert len(run.control.queries("door")) == 2 and "another thread" in refused[0]


def test_after_the_end_changes_are_refused_in_words(model):
    with running(model, WHAT) as run:
        run.frames(1)
    with pytest.raises(EdgeError, match="the run is over"):
        run.control.ask("door", CARS)
    assert run.control.cameras()[0].name == "door"


def test_a_model_that_is_busy_for_too_long_is_an_error_and_the_change_is_not_made_later():
    handover, done = Handover(), []
    with pytest.raises(EdgeError, match=r"not done within 0.05 s, as the model was busy"):
        handover.call(lambda: done.append("late"), 0.05)
    handover.carry_out()
    assert done == []


def test_a_thousand_changes_leak_nothing_and_lose_no_frame(model):
    """From four threads at a time, while frames are decided on."""
    process = psutil.Process()
    with running(model, WHAT) as run:

        def change(number: int) -> None:
            id = run.control.ask("door", QueryConfig(f"{CARS.text} {number}", at=1e9)).id
            run.control.change("door", id, QueryChange(text=f"{WHAT.text} {number}"))
            run.control.change("door", id, QueryChange(threshold=0.5, paused=True))
            run.control.withdraw("door", id)

        def hundred(first: int) -> None:
            run.camera.allow(1)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(change, range(first, first + 100)))

        hundred(0)
        gc.collect()
        before = process.memory_info().rss
        for round in range(1, 11):
            hundred(100 * round)
        gc.collect()
        grown = process.memory_info().rss - before
        run.frames(1)
        assert [query.id for query in run.control.queries("door")] == ["q1"]
        assert sum(isinstance(one, StreamSession) and not one._closed for one in gc.get_objects()) == 1
        assert run.said("q1") == [float(n) for n in range(1, 13)]
        assert grown < 8 << 20, f"{grown / 2**20:.1f} MiB"
