"""The runner with a real model; only the camera, which is hardware, and the clock are scripted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import edge_runtime
from edge_runtime.app.live_display import NoDisplay
from edge_runtime.app.run.runner import Runner, RunReport
from edge_runtime.app.run.scheduler import round_robin
from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.events.policy import PolicySettings, normalise
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event, EventMaker, encode
from edge_runtime.sinks import ReaderGoneError, Sinks
from tests.edge_runtime.list_sink import ListSink
from tests.edge_runtime.several_queries import load_with, script

ALWAYS = PolicySettings(threshold=0.0, repeat_s=0.0)
NEVER = PolicySettings(threshold=1.0)


@dataclass
class Frame:
    index: int
    image: np.ndarray = field(repr=False)
    captured_at: float = 0.0


@dataclass
class Change:
    state: str
    cause: str = ""


class ScriptedCamera:
    """Gives what it was told to, then ends, or raises ``error``. An item that can be called, is."""

    def __init__(self, items: list[Any], *, live: bool = False, error: SourceError | None = None) -> None:
        self.live = live
        self.description = "scripted camera"
        self.decoder = "none"
        self.dropped = 0
        self.reconnects = 0
        self._items = list(items)
        self._error = error

    def read(self, timeout_s: float) -> Any:
        if not self._items:
            raise self._error or StopIteration
        item = self._items.pop(0)
        return item() if callable(item) else item

    def set_masks(self, masks: Any) -> None: ...

    def close(self) -> None: ...


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float):
        def later() -> None:
            self.now += seconds

        return later


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return edge_runtime.load(tiny_bundle, threads=1)


def pictures(*indices: int, captured_at: float = 0.0) -> list[Frame]:
    random = np.random.default_rng(1)
    frames = random.integers(0, 256, (max(indices) + 1, 224, 224, 3), dtype=np.uint8)
    return [Frame(index, frames[index], captured_at) for index in indices]


def watch(model, camera: ScriptedCamera, *queries: QueryConfig, sink: Any = None, **options: Any):
    """Run to the end; (events, report, error)."""
    sink = sink or ListSink()
    events = EventMaker("scripted", None if camera.live else "identity")
    runner = Runner(model, queries, events, Sinks([sink]), NoDisplay(), **options)
    run(runner, camera)
    return getattr(sink, "events", []), runner.report(), runner.error


def run(runner: Runner, camera: ScriptedCamera) -> RunReport:
    runner.begin(camera)
    round_robin([runner])
    return runner.report()


def of_type(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def test_questions_that_share_a_session_have_events_of_their_own(tiny_bundle, tmp_path, monkeypatch):
    model = load_with(tiny_bundle, tmp_path / "two", 2)
    script(monkeypatch, model, ["1: One.\n2: Two.", "2: Two.", "Three.\n2: Two.", "9: Nine."])
    events, report, _ = watch(
        model,
        ScriptedCamera(pictures(0, 1, 2, 3)),
        QueryConfig("What does the person do?", 0.0, ALWAYS),
        QueryConfig("How many red cars passed by?", 0.0, ALWAYS),
    )
    said = [(event["query"], event["time"], event["text"]) for event in of_type(events, "response")]
    assert said == [("q1", 1.0, "One."), *(("q2", time, "Two.") for time in (1.0, 2.0, 3.0))]
    telemetry = report.telemetry
    assert telemetry.suppressed == {"unattributed": 2}  # dropped, counted, and nobody's answer
    assert of_type(events, "stats")[-1]["suppressed"] == {"unattributed": 2}
    assert telemetry.timesteps == telemetry.decision.count == telemetry.stages["append"].count == 4


def test_each_response_names_its_question_and_vision_runs_once_a_frame(model, monkeypatch):
    seen = []
    vision = model._vision
    run = vision.run
    monkeypatch.setattr(vision, "run", lambda *frame: seen.append(1) or run(*frame))
    events, report, _ = watch(
        model,
        ScriptedCamera(pictures(0, 1, 2)),
        QueryConfig("What does the person do?", 0.0, ALWAYS),
        QueryConfig("How many red cars passed by?", 0.0, NEVER),
        QueryConfig("Alert me when the dog crosses.", 0.0, ALWAYS),
    )
    assert len(seen) == 3
    said = [(event["query"], event["time"], event["interval"]) for event in of_type(events, "response")]
    assert [(query, time) for query, time, _ in said] == [
        (q, t) for t in (1.0, 2.0, 3.0) for q in ("q1", "q3")
    ]
    assert said[0][2] == [0.0, 1.0]
    assert report.telemetry.timesteps == 3 and report.telemetry.responses == 6
    assert report.telemetry.decision.count == 9 and report.telemetry.first_text.count == 6


def test_a_question_is_in_force_from_the_first_timestep_that_ends_at_its_time_or_later(model):
    events, report, _ = watch(
        model,
        ScriptedCamera(pictures(0, 1, 2, 3)),
        QueryConfig("What does the person do?", 2.0, ALWAYS),
        QueryConfig("How many?", 2.5, ALWAYS),
        QueryConfig("Later?", 60.0, ALWAYS),
    )
    asked = {event["query"]: events.index(event) for event in of_type(events, "query")}
    first = {
        query: next(e for e in of_type(events, "response") if e["query"] == query) for query in ("q1", "q2")
    }
    assert first["q1"]["time"] == 2.0 and asked["q1"] < events.index(first["q1"])
    assert first["q2"]["time"] == 3.0
    assert of_type(events, "query")[0] | {"id": 0} == {
        "type": "query",
        "id": 0,
        "stream": "scripted",
        "query": "q1",
        "time": 2.0,
        "action": "asked",
        "text": "What does the person do?",
    }
    never = of_type(events, "query")[-1]
    assert (never["query"], never["action"], never["time"]) == ("q3", "never_asked", 60.0)
    assert [event["type"] for event in events[-2:]] == ["query", "stats"]
    assert report.never_asked == ("q3",)
    assert report.telemetry.decision.count == 3 + 2  # decisions before the question are none


def test_a_file_gives_the_same_events_twice(model):
    def run() -> list[str]:
        items = [Change("connecting"), Change("live", "h264"), *pictures(0, 1, 2, 4), Change("ended", "end")]
        queries = [
            QueryConfig("What does the person do?", 0.0, PolicySettings(0.2)),
            QueryConfig("Again?", 1.5, ALWAYS),
        ]
        return [encode(event) for event in watch(model, ScriptedCamera(items), *queries)[0]]

    first = run()
    assert first == run()
    assert not any(word in line for line in first for word in ("wall_time", "latency_ms", "decision_ms"))
    assert json.loads(first[-1]) | {"id": 0} == {
        "type": "stats",
        "id": 0,
        "stream": "scripted",
        "time": 5.0,
        "timesteps": 4,
        "skipped": 1,
        "still": 0,
        "responses": json.loads(first[-1])["responses"],
        "suppressed": json.loads(first[-1])["suppressed"],
    }


def test_a_live_source_tells_time_latency_and_statistics(model):
    clock = Clock()
    frames = pictures(0, 1, 2, captured_at=99.0)  # a second before it is looked at
    camera = ScriptedCamera([frames[0], clock.pass_by(5), clock.pass_by(6), frames[1]], live=True)
    events, report, _ = watch(
        model, camera, QueryConfig("What does the person do?", 0.0, ALWAYS), stats_every_s=10, clock=clock
    )
    response = of_type(events, "response")[0]
    assert response["wall_time"].endswith("Z")
    assert response["latency_ms"]["decision"] >= 1000
    assert (
        response["latency_ms"]["decision"]
        <= response["latency_ms"]["first_token"]
        <= response["latency_ms"]["total"]
    )
    periodic, last = of_type(events, "stats")
    assert periodic["timesteps"] == 1 and last["timesteps"] == 2
    assert periodic["decision_ms"]["n"] == 1 and periodic["dropped"] == 0
    assert "queue" in report.telemetry.stages


def test_the_policy_holds_back_and_counts(model, monkeypatch):
    # The random model must say words: a text of punctuation would be held back for being empty.
    bias = model.text_bias.copy()
    wordless = [i for i in range(model.tokenizer.vocab_size) if not normalise(model.tokenizer.decode([i]))]
    bias[wordless] = -np.inf
    monkeypatch.setattr(model, "text_bias", bias)
    settings = PolicySettings(threshold=0.0, min_gap_s=3.0, repeat_s=0.0)
    events, report, _ = watch(model, ScriptedCamera(pictures(*range(7))), QueryConfig("What?", 0.0, settings))
    assert [event["time"] for event in of_type(events, "response")] == [1.0, 4.0, 7.0]
    assert report.telemetry.suppressed == {"min_gap": 4}
    assert events[-1]["suppressed"] == {"min_gap": 4}


def test_a_response_that_no_sink_took_starts_no_gap(model):
    class FullSink(ListSink):
        def write(self, event: Event) -> bool:
            super().write(event)
            return False

    settings = PolicySettings(threshold=0.0, min_gap_s=100.0)
    events, _, _ = watch(
        model, ScriptedCamera(pictures(0, 1, 2)), QueryConfig("What?", 0.0, settings), sink=FullSink()
    )
    assert len(of_type(events, "response")) == 3


def test_duration_of_a_file_is_its_own_time(model):
    events, report, _ = watch(
        model, ScriptedCamera(pictures(*range(9))), QueryConfig("What?"), duration_s=4.0
    )
    assert report.telemetry.timesteps == 4
    assert of_type(events, "stream")[-1] | {"id": 0} == {
        "type": "stream",
        "id": 0,
        "stream": "scripted",
        "time": 4.0,
        "state": "ended",
        "cause": "4 s are over",
    }


def test_duration_of_a_live_source_is_over_even_when_it_gives_nothing(model):
    clock = Clock()
    camera = ScriptedCamera([Change("connecting"), *[clock.pass_by(1)] * 100], live=True)
    _, report, _ = watch(model, camera, QueryConfig("What?"), duration_s=10.0, clock=clock)
    assert report.wall_s == 10.0 and report.ended == "10 s are over"


def test_stop_finishes_the_timestep_in_hand_and_writes_the_end(model):
    frames = pictures(0, 1, 2)
    sink = ListSink()
    runner = Runner(
        model, [QueryConfig("What?", 0.0, ALWAYS)], EventMaker("scripted"), Sinks([sink]), NoDisplay()
    )

    def stop_now() -> Frame:
        runner.stop("stopped by Ctrl-C")  # as the signal's handler does, while a frame is on its way
        return frames[1]

    report = run(runner, ScriptedCamera([frames[0], stop_now, frames[2]], live=True))
    assert [event["time"] for event in of_type(sink.events, "response")] == [1.0, 2.0]
    assert [event["type"] for event in sink.events[-2:]] == ["stream", "stats"]
    assert sink.events[-2]["cause"] == "stopped by Ctrl-C"
    assert report.ended == "stopped by Ctrl-C"


def test_a_source_that_fails_leaves_its_events_and_a_report(model):
    camera = ScriptedCamera(
        [Change("live"), *pictures(0), Change("failed", "unplugged")],
        live=True,
        error=SourceError("unplugged"),
    )
    events, report, error = watch(model, camera, QueryConfig("What?"))
    assert str(error) == "unplugged"
    assert [event["type"] for event in events] == ["stream", "query", "stream", "stats"]
    assert report.telemetry.timesteps == 1


def test_when_the_reader_of_stdout_goes_the_other_sink_hears_of_it(model):
    class GoneSink(ListSink):
        def write(self, event: Event) -> bool:
            if event["type"] == "response":
                raise ReaderGoneError
            return True

    file = ListSink()
    runner = Runner(
        model,
        [QueryConfig("What?", 0.0, ALWAYS)],
        EventMaker("scripted"),
        Sinks([file, GoneSink()]),
        NoDisplay(),
    )
    with pytest.raises(ReaderGoneError):
        run(runner, ScriptedCamera(pictures(0, 1)))
    assert [event["type"] for event in file.events] == ["query", "response", "stream", "stats"]
    assert "gone" in file.events[2]["cause"]


@pytest.mark.parametrize("text", ["", "word " * 2000])
def test_a_question_that_cannot_be_asked_is_said_before_the_run(model, text):
    with pytest.raises(ConfigError, match="query"):
        Runner(model, [QueryConfig(text, 10.0)], EventMaker("scripted"), Sinks([]), NoDisplay())


def test_another_rate_changes_intervals_and_leaves_the_model_alone(model):
    twice = model.with_fps(2.0)
    events, _, _ = watch(twice, ScriptedCamera(pictures(0, 1, 2)), QueryConfig("What?", 0.0, ALWAYS))
    assert [event["interval"] for event in of_type(events, "response")] == [
        [0.0, 0.5],
        [0.5, 1.0],
        [1.0, 1.5],
    ]
    assert model.stream_format.fps == 1.0 and model.with_fps(1.0) is model


def test_one_model_serves_many_runners_at_once(model):
    def run(seed: int) -> list[Event]:
        frames = pictures(*range(seed % 2, 12))
        return watch(model, ScriptedCamera(frames), QueryConfig("What?", 0.0, ALWAYS))[0]

    alone = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == alone
