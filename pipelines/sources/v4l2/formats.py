"""Which of a camera's formats to ask for: a USB camera offers dozens, and GStreamer would take the largest.

The model looks at a few hundred pixels a side, so a frame of about 640x480 is enough; what matters is that
it comes often. Raw video is taken where it comes fast enough; else MJPEG, else H.264 (USB 2 carries 1080p raw
at 5 frames a second, and MJPEG at 30).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.gst import structure_of

ENOUGH = (640, 480)
ENOUGH_FPS = 10.0
_KINDS = ("video/x-raw", "image/jpeg", "video/x-h264", "video/x-h265")


class Offer(NamedTuple):
    """One format of a camera."""

    media_type: str
    width: int
    height: int
    fps: float


def offers(caps: Any) -> list[Offer]:
    """The formats in a camera's ``caps`` that can be used; ranges are read as their best fit."""
    found = []
    for index in range(caps.get_size()):
        structure = structure_of(caps, index)
        name = structure.get_name()
        features = caps.get_features(index)
        if name not in _KINDS or (features is not None and features.contains("memory:DMABuf")):
            continue
        width = _value(structure, "width", ENOUGH[0])
        height = _value(structure, "height", ENOUGH[1])
        if width and height:
            found.append(Offer(name, width, height, _fastest(structure)))
    return found


def choose(found: list[Offer]) -> Offer | None:
    """The best of ``found``; None when there is nothing to choose from."""
    return min(found, key=_cost, default=None)


def _cost(offer: Offer) -> tuple[bool, bool, int, int, float]:
    """Lower is better: fast enough, large enough, small, cheap to decode, fast."""
    large = offer.width >= ENOUGH[0] and offer.height >= ENOUGH[1]
    area = offer.width * offer.height
    return (
        offer.fps < ENOUGH_FPS,
        not large,
        area if large else -area,
        _KINDS.index(offer.media_type),
        -offer.fps,
    )


def _value(structure: Any, name: str, wanted: int) -> int:
    """A number, or what comes nearest to ``wanted`` in a range or list."""
    ok, number = structure.get_int(name)
    if ok:
        return int(number)
    copy = structure.copy()
    return int(copy.get_int(name)[1]) if copy.fixate_field_nearest_int(name, wanted) else 0


def _fastest(structure: Any) -> float:
    """Frames a second; 0 when the camera does not say."""
    if not structure.has_field("framerate"):
        return 0.0
    copy = structure.copy()
    copy.fixate_field_nearest_fraction("framerate", 1000, 1)
    ok, numerator, denominator = copy.get_fraction("framerate")
    return numerator / denominator if ok and denominator else 0.0


def filter_for(chosen: Offer) -> str:
    """The caps that ask for one of a camera's formats."""
    text = f"{chosen.media_type}, width=(int){chosen.width}, height=(int){chosen.height}"
    if chosen.fps:
        whole = round(chosen.fps * 1000)
        text += f", framerate=(fraction)[ {max(1, whole - 500)}/1000, {whole + 500}/1000 ]"
    return text
