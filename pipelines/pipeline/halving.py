"""Bring large frames near the model's size before their conversion: halve them once, twice or three times.

::

    videoscale ! caps ! videoscale ! caps ! videoscale ! caps

A halved pixel is the mean of two by two, so nothing flickers as it would where pixels are left out. GStreamer
halves fast, at the decoder's own format. At least two pixels remain for each one of the model, which the
scaling with antialiasing that follows brings to their size. A stage that is not needed passes frames through.
"""

from __future__ import annotations

from typing import Any

from pipelines.gst import caps_filter, load, make, structure_of

MOST_HALVINGS = 3
"""Enough for 3840x2160 to 224x126."""
_LEAST_LEFT = 2
"""Pixels in a row that remain for one of the model."""
_FORMATS = ("I420", "YV12", "NV12", "NV21", "Y42B", "NV16", "Y444", "GRAY8")
"""GStreamer takes exact means of their planes, fast. At others halving is no faster than conversion."""
_ANY = "video/x-raw(ANY)"


def halving(size: tuple[int, int], crop: tuple[float, float] = (1.0, 1.0)) -> list[Any]:
    """Make the elements; frames of ``size`` (width, height) are made of the ``crop`` of what comes (width,
    height, as shares).
    """
    elements = []
    for _ in range(MOST_HALVINGS):
        # Bilinear without antialiasing: at exactly half the size it is the mean of two by two.
        scale = make("videoscale")
        load().Gst.util_set_object_arg(scale, "method", "bilinear")
        elements += [scale, caps_filter(_ANY)]

    def on_event(pad: Any, info: Any) -> Any:
        """Set the sizes before the caps that arrive go on."""
        Gst = load().Gst
        event = info.get_event()
        if event.type == Gst.EventType.CAPS:
            caps = event.parse_caps()
            _set_sizes(pad.get_parent_element(), caps, halvings(caps, size, crop))
        return Gst.PadProbeReturn.OK

    elements[0].get_static_pad("sink").add_probe(load().Gst.PadProbeType.EVENT_DOWNSTREAM, on_event)
    return elements


def _set_sizes(scale: Any, caps: Any, times: int) -> None:
    """Let the stages from ``scale`` on halve so many times, and the others keep the size.

    They are found by their links: held by the probe, they would never be freed.
    """
    width, height = _dimensions(caps)
    element = scale
    for stage in range(1, MOST_HALVINGS + 1):
        limit = _next(element)
        by = min(stage, times)
        wanted = f"{_ANY}, width=(int){width >> by}, height=(int){height >> by}"
        limit.set_property("caps", load().Gst.Caps.from_string(wanted))
        element = _next(limit)


def _next(element: Any) -> Any:
    return element.get_static_pad("src").get_peer().get_parent_element()


def halvings(caps: Any, size: tuple[int, int], crop: tuple[float, float] = (1.0, 1.0)) -> int:
    """How often frames of ``caps`` are halved on their way to ``size`` (width, height)."""
    structure = structure_of(caps, 0)
    if structure.get_string("format") not in _FORMATS:
        return 0
    if (structure.get_string("interlace-mode") or "progressive") != "progressive":
        return 0  # lines of two moments would be mixed
    width, height = _dimensions(caps)
    # The frame keeps its aspect, so the side that shrinks most decides. Shares of a crop are of both sides.
    shrinks = max(width * crop[0] / size[0], height * crop[1] / size[1])
    times = 0
    while (
        times < MOST_HALVINGS
        and shrinks / (2 << times) >= _LEAST_LEFT
        # The planes of colour may have half as many pixels and lines: they must come out even as well.
        and width % (4 << times) == height % (4 << times) == 0
    ):
        times += 1
    return times


def _dimensions(caps: Any) -> tuple[int, int]:
    structure = structure_of(caps, 0)
    return structure.get_value("width"), structure.get_value("height")
