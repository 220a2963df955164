"""A run that leaves out still scenes: what is decided, what is counted, and where it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edge_runtime
from edge_runtime.app.run.runner import Runner
from edge_runtime.engine.vision import VisionStream
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.observability.metrics import MetricsPages, StreamMetrics
from edge_runtime.observability.telemetry import total
from tests.edge_runtime.app.run.test_runner import (
    ALWAYS,
    NEVER,
    Clock,
    Frame,
    ScriptedCamera,
    of_type,
    pictures,
    watch,
)

SILENT = QueryConfig("What does the person do?", 0.0, NEVER)


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return edge_runtime.load(tiny_bundle, threads=1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every image that goes through vision."""
    seen: list[Any] = []
    encode = VisionStream.encode

    def look(self: VisionStream, pixels: Any) -> Any:
        seen.append(pixels)
        return encode(self, pixels)

    monkeypatch.setattr(VisionStream, "encode", look)
    return seen


def held(*lengths: int) -> list[Frame]:
    """So many timesteps of one image each, as a camera that compares frames gives them."""
    images = [picture.image for picture in pictures(*range(len(lengths)))]
    shown = [image for image, length in zip(images, lengths, strict=True) for _ in range(length)]
    return [Frame(index, image) for index, image in enumerate(shown)]


def test_a_still_scene_costs_a_decision_every_so_many_seconds(model, encoded):
    events, report, _ = watch(model, ScriptedCamera(held(40)), SILENT, still_skip_s=10.0)
    stats = of_type(events, "stats")[-1]
    assert (stats["timesteps"], stats["still"], stats["skipped"]) == (7, 33, 0)
    assert report.telemetry.decision.count == 7
    assert len(encoded) == 2  # the image, and the image after itself
    assert total([report.telemetry, report.telemetry]).still == 66


def test_off_by_default(model, encoded):
    events, _, _ = watch(model, ScriptedCamera(held(12)), SILENT)
    assert (of_type(events, "stats")[-1]["timesteps"], of_type(events, "stats")[-1]["still"]) == (12, 0)
    assert len(encoded) == 12


def test_a_change_is_decided_on_at_once(model):
    scores: list[tuple[float, int]] = []
    for skip_s in (0.0, 30.0):
        runner = Runner(model, [SILENT], _maker(), _sinks(), _display(), still_skip_s=skip_s)
        decided: list[float] = []
        runner.observer = lambda _frame, time_s, steps, decided=decided: decided.extend(
            [time_s] if steps else []
        )
        runner.begin(ScriptedCamera(held(10, 1, 9)))
        while not runner.over:
            runner.step(0.0)
        runner.finish()
        scores.append((decided[-1], len(decided)))
        if skip_s:
            assert {11.0, 12.0, 13.0, 14.0, 15.0} <= set(decided)
            assert not {5.0, 9.0, 16.0, 20.0} & set(decided)
    assert scores[0] == (20.0, 20)


def test_a_new_question_is_decided_on_though_nothing_moves(model):
    later = QueryConfig("What does the dog do?", 8.0, NEVER)
    events, report, _ = watch(model, ScriptedCamera(held(14)), SILENT, later, still_skip_s=60.0)
    assert [event["time"] for event in of_type(events, "query")] == [0.0, 8.0]
    # 1 to 4; then 8, 9 and 10 after the second question
    assert (report.telemetry.timesteps, report.telemetry.still) == (7, 7)


def test_responses_are_not_left_out(model):
    query = QueryConfig("What does the person do?", 0.0, ALWAYS)
    plain = watch(model, ScriptedCamera(held(8)), query)[0]
    events, report, _ = watch(model, ScriptedCamera(held(8)), query, still_skip_s=60.0)
    told = [[event["time"] for event in of_type(found, "response")] for found in (plain, events)]
    assert told[0] == told[1] and len(told[1]) == 8
    assert report.telemetry.still == 0


def test_a_suppressed_response_keeps_the_model_awake(model):
    query = QueryConfig("What does the person do?", 0.0, PolicySettings(0.0, debounce=(6, 6)))
    events, report, _ = watch(model, ScriptedCamera(held(8)), query, still_skip_s=60.0)
    assert of_type(events, "response")[0]["time"] == 6.0
    assert report.telemetry.still == 0


def test_metrics_and_readiness(model):
    clock = Clock()
    frames = held(20)
    items = [item for frame in frames for item in (frame, clock.pass_by(1))]
    camera = ScriptedCamera(items, live=True)
    runner = Runner(model, [SILENT], _maker(), _sinks(), _display(), still_skip_s=60.0, clock=clock)
    runner.begin(camera)
    pages = MetricsPages([StreamMetrics("door", 1.0, runner.telemetry, camera)], clock=clock)
    while camera._items:
        runner.step(0.0)
    assert pages.answer("/health/ready")[0] == 200  # 16 s after the last decision
    text = pages.answer("/metrics")[1]
    assert 'edge_run_still_total{stream="door"} 16' in text
    assert 'edge_run_timesteps_total{stream="door"} 4' in text
    assert 'edge_run_skipped_total{stream="door"} 0' in text
    runner.finish()


def test_images_that_are_equal_but_not_the_same_are_decided_on(model):
    """Only a camera that compared them says that nothing moved."""
    image = np.full((224, 224, 3), 90, np.uint8)
    frames = [Frame(index, image.copy()) for index in range(10)]
    _, report, _ = watch(model, ScriptedCamera(frames), SILENT, still_skip_s=60.0)
    assert (report.telemetry.timesteps, report.telemetry.still) == (10, 0)


def _maker() -> Any:
    from edge_runtime.events.records import EventMaker

    return EventMaker("door")


def _sinks() -> Any:
    from edge_runtime.sinks import Sinks
    from tests.edge_runtime.list_sink import ListSink

    return Sinks([ListSink()])


def _display() -> Any:
    from edge_runtime.app.live_display import NoDisplay

    return NoDisplay()
