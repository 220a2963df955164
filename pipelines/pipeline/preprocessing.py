"""The preprocessing bin: any decoded frame becomes RGB of the asked size, letterboxed and upright.

::

    halving ! videoconvert ! BGRx ! mask (! videocrop) ! videoscale ! videoflip ! videoconvert ! RGB ! appsink

Large frames are halved first (:mod:`pipelines.pipeline.halving`), unless pictures of full size are wanted.
Four bytes a pixel until the frame is small: GStreamer converts fast to four bytes from what decoders give,
slowly to three, and the pixels are the same. Masks come first behind the conversion: a pixel that they touch
is black, so nothing else ever holds what they hide. Their element is there only when there are masks; they
may come while the video runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from edge_runtime.video.framing import Framing
from pipelines.gst import caps_filter, chain, load, make, structure_of
from pipelines.pipeline.colorimetry import keep_range
from pipelines.pipeline.halving import halving
from pipelines.pipeline.mask_insertion import Masking

_ROTATIONS = {90: "90r", 180: "180", 270: "90l"}


class Preprocessing(NamedTuple):
    """The first and the last element, the conversion, where masks are applied, and where they have been."""

    first: Any
    sink: Any
    converter: Any
    masking: Masking
    masked: Any
    """The pad that frames pass once they are masked, in full size if that is wanted."""


def add_preprocessing(
    pipeline: Any,
    size: tuple[int, int],
    framing: Framing | None = None,
    *,
    paced: bool = False,
    full_size: bool = False,
) -> Preprocessing:
    """Add the elements above; without ``framing`` no mask and no crop.

    ``size``: (width, height). The appsink hands over at once (no preroll; no clock either, unless ``paced``:
    then a frame is handed over when its time has come). ``full_size``: do not halve before masks are applied.
    """
    framing = framing or Framing()
    width, height = size
    if framing.rotate in (90, 270):
        width, height = height, width
    convert, scale = make("videoconvert"), make("videoscale", add_borders=True)
    # Not plain bilinear: it reads two pixels however many fall into one, and thin things would flicker.
    load().Gst.util_set_object_arg(scale, "method", "bilinear2")
    seen = framing.crop[2:] if framing.crop is not None else (1.0, 1.0)
    masked_after = caps_filter("video/x-raw, format=(string)BGRx")
    elements = [
        *([] if full_size else halving((width, height), seen)),
        convert,
        masked_after,
        *([_crop(framing.crop)] if framing.crop is not None else []),
        scale,
        caps_filter(
            f"video/x-raw, width=(int){width}, height=(int){height}, pixel-aspect-ratio=(fraction)1/1"
        ),
    ]
    if width == height:  # makes phone videos upright; on a square, rotating after scaling is the same
        elements.append(_flip("auto"))
    if framing.rotate:
        elements.append(_flip(_ROTATIONS[framing.rotate]))
    sink = make("appsink", sync=paced, emit_signals=True, max_buffers=1, **{"async": False})
    elements += [make("videoconvert"), caps_filter("video/x-raw, format=(string)RGB"), sink]
    chain(pipeline, elements)
    first = elements[0]
    keep_range(first.get_static_pad("sink"))
    onwards = elements[elements.index(masked_after) + 1]
    masking = Masking(pipeline, masked_after, onwards)
    masking.set_masks(framing.masks)
    return Preprocessing(first, sink, convert, masking, onwards.get_static_pad("sink"))


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
