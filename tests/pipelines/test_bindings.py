"""GStreamer's Python bindings differ between releases; what differs is reached through `pipelines.gst`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.gst import load, structure_of

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

ROOT = Path(__file__).resolve().parents[2]


def test_structure_of_everything_that_has_one() -> None:
    Gst = load().Gst
    made = Gst.Structure.new_from_string("thing, number=(int)7")
    element = Gst.ElementFactory.make("identity", None)
    holders = {
        "message": Gst.Message.new_element(element, made.copy()),
        "event": Gst.Event.new_custom(Gst.EventType.CUSTOM_DOWNSTREAM, made.copy()),
        "query": Gst.Query.new_custom(Gst.QueryType.CUSTOM, made.copy()),
    }
    for kind, holder in holders.items():
        found = structure_of(holder)
        del holder
        assert (found.get_name(), found.get_value("number")) == ("thing", 7), kind
    caps = Gst.Caps.from_string("video/x-raw, width=(int)4; image/jpeg, width=(int)6")
    found = [structure_of(caps, index) for index in range(caps.get_size())]
    del caps, holders
    assert [(one.get_name(), one.get_int("width")[1]) for one in found] == [
        ("video/x-raw", 4),
        ("image/jpeg", 6),
    ]


def test_a_structure_outlives_the_context_manager_of_1_26() -> None:
    class Wrapper:
        """Has a structure only while it is entered, and none of its methods."""

        def __enter__(self) -> Any:
            self.inside = load().Gst.Structure.new_from_string("thing, number=(int)7")
            return self.inside

        def __exit__(self, *_: object) -> None:
            self.inside.set_value("number", 0)

    class Holder:
        def get_structure(self) -> Wrapper:
            return Wrapper()

    assert structure_of(Holder()).get_value("number") == 7


def test_nobody_else_calls_get_structure() -> None:
    """Each place that did would fail on one release and pass on all others."""
    folders = ("pipelines", "examples", "benchmarks", "edge_runtime", "tests/pipelines", "tests/edge_runtime")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    callers = {path.relative_to(ROOT).as_posix() for path in sources if ".get_structure(" in path.read_text()}
    assert callers == {"pipelines/gst.py", "tests/pipelines/test_bindings.py"}


SECRETIVE = """
import sys
from pipelines.gst import hush, load
Gst = load().Gst
if sys.argv[1] == "hush":
    hush()
word = "s3cretword"
made = Gst.Structure.new_from_string(f'http-headers, uri=(string)"http://h/x?token={word}"')
caps = Gst.Caps.from_string(f'application/x-rtp, a-control=(string)"rtsp://h/x?token={word}"')
pipeline = Gst.parse_launch("appsrc name=source ! queue ! identity ! tee ! multiqueue ! fakesink name=sink")
source = pipeline.get_by_name("source")
pipeline.set_state(Gst.State.PLAYING)
source.set_property("caps", caps)
source.emit("push-buffer", Gst.Buffer.new_wrapped(b"x"))
tags = Gst.TagList.new_empty()
tags.add_value(Gst.TagMergeMode.APPEND, "location", f"http://h/x?token={word}")
for event in (
    Gst.Event.new_custom(Gst.EventType.CUSTOM_DOWNSTREAM_STICKY, made.copy()),
    Gst.Event.new_tag(tags),
):
    source.send_event(event)
pipeline.query(Gst.Query.new_custom(Gst.QueryType.CUSTOM, made.copy()))
source.post_message(Gst.Message.new_element(source, made.copy()))
Gst.ElementFactory.make("souphttpsrc", None).set_property("location", f"http://u:{word}@h/x")
source.emit("end-of-stream")
kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
pipeline.get_bus().timed_pop_filtered(10 * Gst.SECOND, kinds)
pipeline.set_state(Gst.State.NULL)
"""


def debug_log(mode: str, levels: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SECRETIVE, mode],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "GST_DEBUG": levels, "GST_DEBUG_NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


@pytest.mark.parametrize(
    "levels", ["6", "*:6", "1,GST_REFCOUNTING:6,GST_PADS:7", "GST_*:9,GST_REFCOUNTING:6"]
)
def test_the_debug_log_shows_harmless_categories_alone(levels: str) -> None:
    """A secret in caps, tags, events, messages, queries and locations, which any category may print."""
    log = debug_log("hush", levels)
    assert "GST_REFCOUNTING" in log
    assert "s3cretword" not in log
    if levels == "6":
        assert "s3cretword" in debug_log("as it is", levels)
