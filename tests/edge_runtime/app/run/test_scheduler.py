"""Cameras that take turns on one real model; only the cameras, which are hardware, are scripted."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pytest

import edge_runtime
from edge_runtime.app.live_display import NoDisplay
from edge_runtime.app.run.runner import Runner
from edge_runtime.app.run.scheduler import round_robin
from edge_runtime.backends.ort_batch import OrtBatch
from edge_runtime.errors import SourceError
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event, EventMaker
from edge_runtime.observability.telemetry import total
from edge_runtime.sinks import ReaderGoneError, Sinks
from edge_runtime.video.source import AbsentCamera
from tests.edge_runtime.list_sink import ListSink

ASK = QueryConfig("What does the person do?", 0.0, PolicySettings(threshold=0.0, repeat_s=0.0))


class Frame:
    def __init__(self, index: int) -> None:
        self.index = index
        self.image = np.full((64, 64, 3), 37 * index % 256, np.uint8)
        self.captured_at = time.monotonic()


class ScriptedCamera:
    """``count`` pictures, and then its end: ``error``, or an orderly one."""

    description, decoder, dropped, reconnects = "scripted camera", "none", 0, 0

    def __init__(self, count: int, *, live: bool = False, error: Exception | None = None) -> None:
        self.live = live
        self._left = iter(range(count))
        self._error = error

    def read(self, timeout_s: float) -> Any:
        for index in self._left:
            return Frame(index)
        raise self._error or StopIteration

    def set_masks(self, masks: Any) -> None: ...

    def close(self) -> None: ...


class SlowCamera(ScriptedCamera):
    """Live: a picture when somebody puts one there."""

    def __init__(self) -> None:
        super().__init__(0, live=True)
        self.waiting: list[Frame] = []
        self.over = False

    def read(self, timeout_s: float) -> Any:
        if self.waiting:
            return self.waiting.pop(0)
        if self.over:
            raise StopIteration
        return None


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return edge_runtime.load(tiny_bundle, threads=1)


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


def begun(model, sink: Any, name: str, camera: Any, *queries: QueryConfig, **options: Any) -> Runner:
    identity = None if camera.live else "identity"
    runner = Runner(
        model, queries or (ASK,), EventMaker(name, identity), Sinks([sink]), NoDisplay(), **options
    )
    runner.begin(camera)
    return runner


def steps(events: list[Event]) -> list[tuple[str, float]]:
    return [(event["stream"], event["time"]) for event in events if event["type"] == "response"]


def test_each_takes_a_turn_and_none_waits_for_another_to_end(model, sink):
    runners = [begun(model, sink, name, ScriptedCamera(6)) for name in ("door", "hall", "yard")]
    round_robin(runners)
    expected = [(name, float(second)) for second in range(1, 7) for name in ("door", "hall", "yard")]
    assert steps(sink.events) == expected
    assert total(runner.telemetry for runner in runners).timesteps == 18


def test_cameras_keep_apart_what_they_see(model, sink):
    """Beside others a camera says, byte for byte, what it says alone."""
    round_robin([begun(model, sink, "door", ScriptedCamera(20))])
    alone, sink.events = sink.events, []
    round_robin([begun(model, sink, name, ScriptedCamera(20)) for name in ("hall", "door")])
    assert [event for event in sink.events if event["stream"] == "door"] == alone


def test_a_file_that_is_always_ready_does_not_starve_a_live_camera(model, sink):
    """The slow one has its picture looked at in the very next round, and wakes a loop that sleeps."""
    slow, fast = SlowCamera(), ScriptedCamera(40)
    wake = threading.Event()
    rounds = []

    def between() -> None:
        rounds.append(len(steps(sink.events)))
        if len(rounds) in (5, 15):
            slow.waiting.append(Frame(len(rounds)))
        slow.over = len(rounds) > 20

    round_robin(
        [begun(model, sink, "fast", fast), begun(model, sink, "slow", slow)], wake=wake, between=between
    )
    said = steps(sink.events)
    places = [place for place, (stream, _) in enumerate(said) if stream == "slow"]
    assert places == [5, 16]  # after five, and after fifteen timesteps of the other
    assert len(said) == 42


def test_nothing_is_spun_when_no_camera_has_anything(model, sink):
    cameras = [SlowCamera(), SlowCamera()]
    wake = threading.Event()
    rounds = 0

    def between() -> None:
        nonlocal rounds
        rounds += 1

    def later() -> None:
        time.sleep(0.5)
        for camera in cameras:
            camera.over = True
        wake.set()

    thread = threading.Thread(target=later)
    thread.start()
    round_robin(
        [begun(model, sink, str(n), camera) for n, camera in enumerate(cameras)], wake=wake, between=between
    )
    thread.join()
    assert rounds < 15


def test_one_that_fails_leaves_the_others_alone(model, sink):
    broken = SourceError("the cable was cut")
    cameras = {
        "gone": AbsentCamera("gone", SourceError("no such file")),
        "dies": ScriptedCamera(2, error=broken),
        "bug": ScriptedCamera(1, error=KeyError("a mistake of ours")),
        "fine": ScriptedCamera(5),
    }
    ended = []
    runners = [begun(model, sink, name, camera) for name, camera in cameras.items()]
    round_robin(runners, ended=ended.append)
    assert {runner.stream: runner.error for runner in runners if runner.error} == {
        "gone": cameras["gone"]._error,
        "dies": broken,
        "bug": cameras["bug"]._error,
    }
    assert [runner.stream for runner in ended] == ["gone", "bug", "dies", "fine"]
    assert len([1 for stream, _ in steps(sink.events) if stream == "fine"]) == 5
    failed = {
        e["stream"]: e["cause"] for e in sink.events if e["type"] == "stream" and e["state"] == "failed"
    }
    assert failed["dies"] == "the cable was cut" and failed["gone"] == "no such file"
    for name in cameras:  # each camera's last word are its statistics
        assert [event["type"] for event in sink.events if event["stream"] == name][-1] == "stats"


def test_one_whose_last_event_cannot_be_written_leaves_the_others_alone(model):
    full = OSError("no space left on device")

    class FullForDoor(ListSink):
        def write(self, event: Event) -> bool:
            if event["stream"] == "door" and event["type"] == "stats":
                raise full
            return super().write(event)

    sink = FullForDoor()
    runners = [begun(model, sink, "door", ScriptedCamera(1)), begun(model, sink, "hall", ScriptedCamera(4))]
    ended = []
    round_robin(runners, ended=ended.append)
    assert [runner.error for runner in runners] == [full, None]
    assert ended == runners
    assert len([1 for stream, _ in steps(sink.events) if stream == "hall"]) == 4


def test_a_stop_ends_all_in_order(model, sink):
    runners = [begun(model, sink, name, SlowCamera()) for name in ("door", "hall")]
    rounds = []

    def between() -> None:
        rounds.append(1)
        if len(rounds) == 2:
            for runner in runners:
                runner.stop("stopped by Ctrl-C")

    round_robin(runners, between=between)
    assert [(event["stream"], event["type"]) for event in sink.events] == [
        (name, kind) for name in ("door", "hall") for kind in ("stream", "query", "stats")
    ]
    assert {runner.report().ended for runner in runners} == {"stopped by Ctrl-C"}


def test_when_nobody_reads_any_more_all_end(model):
    class GoneSink(ListSink):
        def write(self, event: Event) -> bool:
            if event["type"] == "response":
                raise ReaderGoneError
            return super().write(event)

    sink = GoneSink()
    runners = [begun(model, sink, name, ScriptedCamera(9)) for name in ("door", "hall")]
    with pytest.raises(ReaderGoneError):
        round_robin(runners)
    assert all(runner.over for runner in runners)
    assert {event["stream"] for event in sink.events if event["type"] == "stats"} == {"door", "hall"}


def test_a_runner_that_joins_says_what_it_says_alone_and_the_others_go_on(model, sink):
    """One joins in the middle, and another when none is left: the loop stays for it."""
    round_robin([begun(model, sink, "door", ScriptedCamera(5))])
    alone = steps(sink.events)
    sink.events = []
    joining: deque[Runner] = deque()
    ended: list[str] = []
    empty = []

    def between() -> None:
        if len(sink.events) > 6 and "door" not in {event["stream"] for event in sink.events}:
            joining.append(begun(model, sink, "door", ScriptedCamera(5)))
        if len(ended) == 2:
            empty.append(True)
            if len(empty) == 3:
                joining.append(begun(model, sink, "yard", ScriptedCamera(2)))

    round_robin(
        [begun(model, sink, "hall", ScriptedCamera(9))],
        wake=threading.Event(),
        between=between,
        ended=lambda runner: ended.append(runner.stream),
        joining=joining,
        stays=lambda: len(ended) < 3,
    )
    said = steps(sink.events)
    assert [step for step in said if step[0] == "door"] == alone
    assert len([step for step in said if step[0] == "hall"]) == 9
    assert [step for step in said if step[0] == "yard"] == [("yard", 1.0), ("yard", 2.0)]
    assert ended[-1] == "yard"


def test_cameras_share_calls_and_decide_what_they_decide_alone(model, monkeypatch):
    """Five cameras, two of which end early; another with two questions, one of them later; one fails."""
    calls = []
    step = OrtBatch.step

    def counted(self, steps):
        calls.append(len(steps))
        return step(self, steps)

    monkeypatch.setattr(OrtBatch, "step", counted)
    later = QueryConfig("Alert me when the dog crosses the street.", 6.0, ASK.policy)

    def cameras():
        found = [(ScriptedCamera(count), [ASK]) for count in (20, 5, 20, 11)]
        return [
            *found,
            (ScriptedCamera(20), [ASK, later]),
            (ScriptedCamera(8, error=SourceError("gone")), [ASK]),
        ]

    def run(which):
        sink = ListSink()
        runners = []
        for number, (camera, queries) in which:
            events = EventMaker(f"camera{number}", f"recording {number}")
            runner = Runner(model, queries, events, Sinks([sink]), NoDisplay())
            runner.begin(camera)
            runners.append(runner)
        round_robin(runners)
        return sink.events, runners

    together, runners = run(list(enumerate(cameras())))
    assert max(calls) == 7 and "gone" in str(runners[5].error)
    assert [runner.error for runner in runners[:5]] == [None] * 5
    calls.clear()
    for number, camera in enumerate(cameras()):
        alone, _ = run([(number, camera)])
        assert [event for event in together if event["stream"] == f"camera{number}"] == alone
    assert not calls
