"""A live test pattern made by GStreamer: ``test:`` or ``test:smpte``. It needs no camera."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import caps_filter, load, make
from pipelines.sources.base import ElementContext, Source

PATTERNS = (
    *("ball", "smpte", "snow", "black", "white", "red", "green", "blue", "checkers-8", "circular"),
    "pinwheel",
)
"""Patterns of GStreamer's videotestsrc that may be asked for by name."""
_CAPS = "video/x-raw, width=(int)640, height=(int)480, framerate=(fraction)30/1"


@dataclass(frozen=True)
class TestSource(Source):
    """A moving or still pattern at 30 frames per second."""

    __test__ = False  # not a test class, whatever pytest thinks of its name
    pattern: str = "ball"
    kind = "test pattern"
    live = True
    decoder = "none"

    @property
    def label(self) -> str:
        return f"test:{self.pattern}"

    def make_elements(self, context: ElementContext) -> list[Any]:
        element = make("videotestsrc", is_live=True)
        load().Gst.util_set_object_arg(element, "pattern", self.pattern)
        return [element, caps_filter(_CAPS)]


def parse(text: str) -> TestSource | None:
    """Raises SourceError for a pattern that does not exist."""
    if text != "test" and (not text.startswith("test:") or os.path.isfile(text)):
        return None
    pattern = text.partition(":")[2] or "ball"
    if pattern not in PATTERNS:
        raise SourceError(
            f"test:{pattern}: no such pattern; use one of {', '.join(PATTERNS)}", permanent=True
        )
    return TestSource(pattern)
