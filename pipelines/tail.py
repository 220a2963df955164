"""The end of every pipeline: any decoded picture becomes RGB of the asked size, letterboxed and upright.

::

    videoconvert ! RGB (! mask) (! videocrop) ! videoscale ! videoflip ! appsink

Masks come first behind the conversion: nothing else ever holds what they hide.
"""

from __future__ import annotations

import itertools
from typing import Any

from edge_runtime.errors import SourceError
from edge_runtime.framing import Framing

from .gst import load, make

_TURNS = {90: "90r", 180: "180", 270: "90l"}


def add_tail(
    pipeline: Any, size: tuple[int, int], framing: Framing | None = None, *, paced: bool = False
) -> tuple[Any, Any]:
    """Add the elements above; returns the first and the last of them.

    ``size``: (width, height). The appsink hands over at once (no preroll; no clock either, unless ``paced``:
    then a picture is handed over when its time has come).
    """
    Gst = load().Gst
    framing = framing or Framing()
    width, height = size
    rgb = Gst.Caps.from_string("video/x-raw, format=(string)RGB")
    before = (height, width) if framing.rotate in (90, 270) else (width, height)
    sized = Gst.Caps.from_string(
        f"video/x-raw, width=(int){before[0]}, height=(int){before[1]}, pixel-aspect-ratio=(fraction)1/1"
    )
    convert, scale = make("videoconvert"), make("videoscale", add_borders=True)
    # Not plain bilinear: it reads two pixels however many fall into one, and thin things would flicker.
    Gst.util_set_object_arg(scale, "method", "bilinear2")
    elements = [
        convert,
        make("capsfilter", caps=rgb),
        *_framing_elements(framing),
        scale,
        make("capsfilter", caps=sized),
    ]
    if width == height:  # makes phone videos upright; on a square, turning after scaling is the same
        elements.append(_flip("auto"))
    if framing.rotate:
        elements.append(_flip(_TURNS[framing.rotate]))
    sink = make("appsink", sync=paced, emit_signals=True, max_buffers=1)
    sink.set_property("async", False)
    elements.append(sink)
    for element in elements:
        pipeline.add(element)
    for one, next_one in itertools.pairwise(elements):
        link(one, next_one)
    return convert, sink


def _framing_elements(framing: Framing) -> list[Any]:
    elements = []
    if framing.masks:
        from .mask_element import PrivacyMask

        elements.append(PrivacyMask(framing.masks))
    if framing.crop is not None:
        elements.append(_crop(framing.crop))
    return elements


def _crop(crop: tuple[float, float, float, float]) -> Any:
    """A videocrop whose pixels follow the size of what comes."""
    Gst = load().Gst
    left, top, width, height = crop
    element = make("videocrop")

    def on_event(_pad: Any, info: Any) -> Any:
        event = info.get_event()
        if event.type == Gst.EventType.CAPS:
            structure = event.parse_caps().get_structure(0)
            wide, high = structure.get_value("width"), structure.get_value("height")
            edges = {"left": left * wide, "top": top * high}
            edges["right"] = wide - (left + width) * wide
            edges["bottom"] = high - (top + height) * high
            for name, pixels in edges.items():
                element.set_property(name, max(0, round(pixels)))
        return Gst.PadProbeReturn.OK

    element.get_static_pad("sink").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, on_event)
    return element


def _flip(direction: str) -> Any:
    element = make("videoflip")
    load().Gst.util_set_object_arg(element, "video-direction", direction)
    return element


def link(before: Any, after: Any) -> None:
    """Raises SourceError when the two do not fit."""
    if not before.link(after):
        raise SourceError(f"GStreamer cannot link {before.get_name()} to {after.get_name()}", permanent=True)
