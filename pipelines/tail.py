"""The end of every pipeline: any decoded picture becomes RGB of the asked size, letterboxed and upright."""

from __future__ import annotations

import itertools
from typing import Any

from edge_runtime.errors import SourceError

from .gst import load, make


def add_tail(pipeline: Any, size: tuple[int, int]) -> tuple[Any, Any]:
    """Add ``videoconvert ! RGB ! videoscale ! videoflip ! appsink``; returns the first and the last of them.

    ``size``: (width, height). The appsink hands over at once (no clock, no preroll).
    """
    Gst = load().Gst
    width, height = size
    rgb = Gst.Caps.from_string("video/x-raw, format=(string)RGB")
    sized = Gst.Caps.from_string(
        f"video/x-raw, width=(int){width}, height=(int){height}, pixel-aspect-ratio=(fraction)1/1"
    )
    convert, scale = make("videoconvert"), make("videoscale", add_borders=True)
    # Not plain bilinear: it reads two pixels however many fall into one, and thin things would flicker.
    Gst.util_set_object_arg(scale, "method", "bilinear2")
    elements = [convert, make("capsfilter", caps=rgb), scale, make("capsfilter", caps=sized)]
    if width == height:  # makes phone videos upright; on a square, turning after scaling is the same
        flip = make("videoflip")
        Gst.util_set_object_arg(flip, "video-direction", "auto")
        elements.append(flip)
    sink = make("appsink", sync=False, emit_signals=True, max_buffers=1)
    sink.set_property("async", False)
    elements.append(sink)
    for element in elements:
        pipeline.add(element)
    for before, after in itertools.pairwise(elements):
        link(before, after)
    return convert, sink


def link(before: Any, after: Any) -> None:
    """Raises SourceError when the two do not fit."""
    if not before.link(after):
        raise SourceError(f"GStreamer cannot link {before.get_name()} to {after.get_name()}", permanent=True)
