"""The end of every pipeline: any decoded picture becomes RGB of the asked size, letterboxed and upright.

::

    videoconvert ! BGRx ! mask (! videocrop) ! videoscale ! videoflip ! videoconvert ! RGB ! appsink

Four bytes a pixel until the picture is small: to them GStreamer has a fast way from what decoders give, to
three it has not, and the pixels are the same. Masks come first behind the conversion: nothing else ever holds
what they hide. Their element is there only when there are masks; they may come while the video runs.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from edge_runtime.errors import SourceError
from edge_runtime.video.framing import Framing
from pipelines.gst import load, make, structure_of
from pipelines.pipeline.colorimetry import keep_range
from pipelines.pipeline.mask_insertion import Masking

_TURNS = {90: "90r", 180: "180", 270: "90l"}


class Tail(NamedTuple):
    """The first and the last element, and where masks are applied."""

    head: Any
    sink: Any
    masking: Masking


def add_tail(
    pipeline: Any, size: tuple[int, int], framing: Framing | None = None, *, paced: bool = False
) -> Tail:
    """Add the elements above; without ``framing`` no mask and no crop.

    ``size``: (width, height). The appsink hands over at once (no preroll; no clock either, unless ``paced``:
    then a picture is handed over when its time has come).
    """
    Gst = load().Gst
    framing = framing or Framing()
    width, height = size
    large = Gst.Caps.from_string("video/x-raw, format=(string)BGRx")
    small = Gst.Caps.from_string("video/x-raw, format=(string)RGB")
    before = (height, width) if framing.rotate in (90, 270) else (width, height)
    sized = Gst.Caps.from_string(
        f"video/x-raw, width=(int){before[0]}, height=(int){before[1]}, pixel-aspect-ratio=(fraction)1/1"
    )
    convert, scale = make("videoconvert"), make("videoscale", add_borders=True)
    # Not plain bilinear: it reads two pixels however many fall into one, and thin things would flicker.
    Gst.util_set_object_arg(scale, "method", "bilinear2")
    elements = [
        convert,
        make("capsfilter", caps=large),
        *([_crop(framing.crop)] if framing.crop is not None else []),
        scale,
        make("capsfilter", caps=sized),
    ]
    if width == height:  # makes phone videos upright; on a square, turning after scaling is the same
        elements.append(_flip("auto"))
    if framing.rotate:
        elements.append(_flip(_TURNS[framing.rotate]))
    elements += [make("videoconvert"), make("capsfilter", caps=small)]
    sink = make("appsink", sync=paced, emit_signals=True, max_buffers=1)
    sink.set_property("async", False)
    elements.append(sink)
    for element in elements:
        pipeline.add(element)
    for one, next_one in itertools.pairwise(elements):
        link(one, next_one)
    keep_range(convert.get_static_pad("sink"))
    masking = Masking(pipeline, *elements[1:3])
    masking.set_masks(framing.masks)
    return Tail(convert, sink, masking)


def _crop(crop: tuple[float, float, float, float]) -> Any:
    """A videocrop whose pixels follow the size of what comes."""
    Gst = load().Gst
    left, top, width, height = crop
    element = make("videocrop")

    def on_event(pad: Any, info: Any) -> Any:
        event = info.get_event()
        if event.type == Gst.EventType.CAPS:
            cropper = pad.get_parent_element()  # held here, `element` would never be freed
            structure = structure_of(event.parse_caps(), 0)
            wide, high = structure.get_value("width"), structure.get_value("height")
            edges = {"left": left * wide, "top": top * high}
            edges["right"] = wide - (left + width) * wide
            edges["bottom"] = high - (top + height) * high
            for name, pixels in edges.items():
                cropper.set_property(name, max(0, round(pixels)))
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
