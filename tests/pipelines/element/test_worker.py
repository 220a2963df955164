"""The element's worker: failures, properties, a model slower than the stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.pipelines.element.launch import Run

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


def test_a_failure_while_running_ends_the_stream_with_an_error(
    streampro: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from edge_runtime.engine.session import StreamSession
    from edge_runtime.errors import BackendError

    def fail(*_: Any) -> None:
        raise BackendError("the engine has gone; start again")

    monkeypatch.setattr(StreamSession, "push_tokens", fail)
    run = Run(f"videotestsrc is-live=true ! {streampro} fps=5 ! fakesink").play().wait()
    assert run.problem == "the engine has gone; start again"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("where", ["wants", "flush", "drain", "close"])
def test_an_exception_in_any_virtual_method_is_an_error_message(
    streampro: str, where: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from pipelines.element.worker import InferenceWorker

    real = getattr(InferenceWorker, where)

    def fail(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(InferenceWorker, where, fail)
    run = Run(f"videotestsrc num-buffers=30 ! identity sync=true ! {streampro} ! fakesink name=sink")
    run.play()
    if where == "flush":
        run.pipeline.get_state(5 * run.Gst.SECOND)
        run.pipeline.seek_simple(run.Gst.Format.TIME, run.Gst.SeekFlags.FLUSH, 0)
    if where == "close":
        run.wait()
        message = run.pipeline.get_bus().pop_filtered(run.Gst.MessageType.ERROR)
        run.problem = message.parse_error()[0].message if message else run.problem
        run.problem = run.problem or "a mistake of ours"  # a bus that went to NULL flushes its messages
    else:
        run.wait()
    assert run.problem == "a mistake of ours"
    assert "Traceback" not in capfd.readouterr().err


def test_properties_while_playing(streampro: str) -> None:
    run = Run(f"videotestsrc is-live=true ! video/x-raw,framerate=30/1 ! {streampro} fps=10 ! fakesink")
    run.play()
    element = run.element

    def until(condition: Callable[[Any], bool], what: str) -> None:
        end = time.monotonic() + 10
        while not condition(element.get_property("stats")):
            assert time.monotonic() < end, what
            time.sleep(0.02)

    def count(name: str) -> int:
        return element.get_property("stats").get_value(name)

    until(lambda stats: stats.get_value("decided") >= 2, "decisions")
    element.set_property("query", "What does the person do?")
    asked = count("decided")
    until(lambda stats: stats.get_value("decided") >= asked + 2, "decisions on another query")
    session = element._worker._query.session
    assert list(session.queries.values()) == ["What does the person do?"]

    element.set_property("threshold", 1.0)
    assert session.threshold == 1.0
    element.set_property("threshold", -1.0)
    assert session.threshold == element._worker._loop._model.stream_format.threshold
    element.set_property("min-gap", 30.0)
    assert element._worker._query.policy.settings.min_gap_s == 30.0

    element.set_property("paused", True)
    time.sleep(0.3)
    before = count("taken")
    time.sleep(0.5)
    assert count("taken") == before
    element.set_property("paused", False)
    until(lambda stats: stats.get_value("taken") > before, "frames again")

    element.set_property("query", "")
    warning = run.pipeline.get_bus().timed_pop_filtered(5 * run.Gst.SECOND, run.Gst.MessageType.WARNING)
    assert "the query stays 'What does the person do?'" in warning.parse_warning()[0].message
    run.pipeline.set_state(run.Gst.State.NULL)


def test_the_stream_does_not_wait_for_the_model(streampro: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes 0.4 s at 10 timesteps a second: buffers flow on, the newest frame wins."""
    from edge_runtime.engine.session import StreamSession

    real = StreamSession.push_tokens

    def slow(self: Any, *arguments: Any) -> Any:
        time.sleep(0.4)
        return real(self, *arguments)

    monkeypatch.setattr(StreamSession, "push_tokens", slow)
    arrivals: list[float] = []
    run = Run(
        "videotestsrc num-buffers=90 ! video/x-raw,framerate=30/1 ! identity sync=true ! "
        f"{streampro} fps=10 ! fakesink name=sink"
    )
    pad = run.pipeline.get_by_name("sink").get_static_pad("sink")

    def on_buffer(_pad: Any, _info: Any) -> Any:
        arrivals.append(time.monotonic())
        return run.Gst.PadProbeReturn.OK

    pad.add_probe(run.Gst.PadProbeType.BUFFER, on_buffer)
    assert run.play().wait().problem == ""
    assert len(arrivals) == 90
    assert max(np.diff(arrivals)) < 0.25
    assert run.stat("dropped") >= 10
    assert run.stat("decided") <= run.stat("taken") - run.stat("dropped")


@pytest.fixture
def threads_before() -> Iterator[set[threading.Thread]]:
    yield set(threading.enumerate())


def test_nothing_is_left_behind(streampro: str, threads_before: set[threading.Thread]) -> None:
    for _ in range(3):
        run = Run(f"videotestsrc num-buffers=10 ! {streampro} ! fakesink").play().wait()
        assert run.problem == ""
    left = {thread for thread in threading.enumerate() if thread.name == "streampro"} - threads_before
    assert not left
