"""GStreamer's Python bindings differ between releases; what differs is reached through `pipelines.gst`."""

from __future__ import annotations

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
