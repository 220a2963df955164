"""Responses as GstAnalytics metadata."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.element import messages as results
from pipelines.element.worker import ElementResponse
from pipelines.gst import load
from tests.pipelines.element.launch import Run

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


def test_analytics_metadata_in_a_pipeline(streampro: str) -> None:
    """Each response is on the buffer behind its event, as a classification that others can read."""
    library = results.analytics()
    if library is None:
        pytest.skip("needs GstAnalytics: GStreamer 1.24 or newer and gir1.2-gst-plugins-bad-1.0")
    from gi.repository import GLib

    run = Run(
        "videotestsrc num-buffers=90 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
        f"identity sync=true ! {streampro} ! fakesink name=sink"
    )
    found: list[tuple[str, float]] = []

    def on_buffer(_pad: Any, info: Any) -> Any:
        relations = library.buffer_get_analytics_relation_meta(info.get_buffer())
        for index in range(library.relation_get_length(relations) if relations is not None else 0):
            _, classes = relations.get_cls_mtd(index)
            found.append((GLib.quark_to_string(classes.get_quark(0)), classes.get_level(0)))
        return run.Gst.PadProbeReturn.OK

    pad = run.pipeline.get_by_name("sink").get_static_pad("sink")
    pad.add_probe(run.Gst.PadProbeType.BUFFER, on_buffer)
    assert run.play().wait().problem == ""
    said = [(one.get_value("text"), pytest.approx(one.get_value("score"))) for one in run.messages]
    assert found and found == said[: len(found)]
    assert len(said) - len(found) <= 1  # behind the last one no buffer may follow
    assert sum(kind == "buffer" for kind, _ in run.passed) == 90


def test_analytics_metadata_by_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before GStreamer 1.24 its shape stands in for the library."""
    made: list[tuple[float, str]] = []

    class Relations:
        def add_one_cls_mtd(self, score: float, quark: int) -> tuple[bool, object]:
            from gi.repository import GLib

            made.append((score, GLib.quark_to_string(quark)))
            return True, object()

    class Library:
        @staticmethod
        def buffer_add_analytics_relation_meta(_buffer: Any) -> Relations:
            return Relations()

    response = ElementResponse("id", 0, 1, "The train enters.", 0.75)
    monkeypatch.setattr(results, "analytics", lambda: Library)
    assert results.attach(load().Gst.Buffer.new(), response)
    assert made == [(0.75, "The train enters.")]
    monkeypatch.setattr(results, "analytics", lambda: None)
    assert not results.attach(load().Gst.Buffer.new(), response)
