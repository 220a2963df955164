"""The element `streampro` in real pipelines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.gst import load
from tests.pipelines.element.launch import Run

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


def test_video_source(streampro: str) -> None:
    """Messages at once, events between the right buffers, every buffer passed on."""
    run = Run(
        "videotestsrc num-buffers=90 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
        f"identity sync=true ! {streampro} ! fakesink name=sink"
    )
    run.play().wait()
    assert run.problem == ""
    assert sum(kind == "buffer" for kind, _ in run.passed) == 90
    assert run.stat("taken") == 3
    assert run.stat("dropped") == 0
    fields = [name for name in ("id", "pts_start", "pts_end", "text", "score")]
    assert len(run.messages) == run.stat("responses") >= 1
    assert all(message.has_field(name) for message in run.messages for name in fields)
    assert len({message.get_value("id") for message in run.messages}) == len(run.messages)
    for message in run.messages:
        assert message.get_value("pts_end") - message.get_value("pts_start") == load().Gst.SECOND
        assert message.get_value("text")
        assert 0 <= message.get_value("score") <= 1
    events = [pts for kind, pts in run.passed if kind == "event"]
    assert events == [message.get_value("pts_end") for message in run.messages]
    last = 0
    for kind, pts in run.passed:  # an event never comes before the frame it is about
        if kind == "event":
            assert pts <= last + load().Gst.SECOND * 0.2
        last = pts if kind == "buffer" else last


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ('query=""', "query: the text is empty"),
        ("query=a bundle=nosuchbundle", "bundle nosuchbundle: no such folder"),
        ("query=a backend=abacus", "backend 'abacus': unknown; choose one of auto, cpu, cuda"),
        (f"query={'word' * 4000}", "shorten it"),
    ],
)
def test_bad_properties_are_one_line_on_the_bus(properties: str, words: str, capfd: Any) -> None:
    run = (
        Run(f"videotestsrc num-buffers=3 ! streampro name=s threads=1 {properties} ! fakesink").play().wait()
    )
    assert words in run.problem
    assert "\n" not in run.problem
    assert "Traceback" not in capfd.readouterr().err


def test_why_cuda_is_not_used_is_a_warning_on_the_bus(
    streampro: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr nobody would see it: the provider is there, and the bundle's cache is float32."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    source = "videotestsrc num-buffers=2 ! video/x-raw,framerate=1/1"
    assert Run(f"{source} ! {streampro} ! fakesink").play().wait().problem.startswith("CUDA is not used: ")
    assert Run(f"{source} ! {streampro} backend=cpu ! fakesink").play().wait().problem == ""


def test_a_seek_starts_a_new_session(streampro: str, make_clip: Callable[..., Path]) -> None:
    clip = make_clip("clip.mp4", seconds=4)
    run = Run(f"filesrc location={clip} ! decodebin ! {streampro} ! fakesink sync=true name=sink")
    run.play()
    run.pipeline.get_state(5 * run.Gst.SECOND)
    time.sleep(1.5)
    flags = run.Gst.SeekFlags.FLUSH | run.Gst.SeekFlags.KEY_UNIT
    assert run.pipeline.seek_simple(run.Gst.Format.TIME, flags, 0)
    run.wait()
    assert run.problem == ""
    ends = [message.get_value("pts_end") for message in run.messages]
    assert ends.count(ends[0]) == 2  # the first second, before and after the seek


def test_time_stamps_that_start_anywhere_and_jump_back(streampro: str) -> None:
    run = Run(
        f"videotestsrc num-buffers=60 timestamp-offset=7000000000000 ! video/x-raw,framerate=30/1 ! "
        f"identity sleep-time=20000 ! {streampro} ! fakesink name=sink"
    )
    assert run.play().wait().problem == ""
    assert run.messages[0].get_value("pts_start") == 7_000 * load().Gst.SECOND


def test_latency_is_answered_and_none_is_added(streampro: str) -> None:
    Gst = load().Gst
    run = Run(f"videotestsrc is-live=true ! video/x-raw,framerate=10/1 ! {streampro} ! fakesink name=sink")
    run.play()
    run.pipeline.get_state(5 * Gst.SECOND)
    answers = []
    for name in ("s", "sink"):
        query = Gst.Query.new_latency()
        pad = run.pipeline.get_by_name(name).get_static_pad("sink")
        assert pad.peer_query(query)
        answers.append(query.parse_latency())
    run.pipeline.set_state(Gst.State.NULL)
    before, after = answers
    assert before == after
    assert after[0]  # live
