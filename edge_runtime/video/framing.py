"""Which part of a camera's frame is seen, and how: privacy masks, crop, rotation.

Positions are shares of the frame as the camera sends it (0, 0 is its upper left corner, 1, 1 its lower
right), so that they hold for every resolution. Masks are blacked out first, then the crop is taken, then the
frame is rotated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Polygon = tuple[Point, ...]
ROTATIONS = (0, 90, 180, 270)


@dataclass(frozen=True)
class Framing:
    """Raises ValueError naming the setting that cannot be."""

    masks: tuple[Polygon, ...] = ()
    """Polygons that nothing behind the decoder ever sees."""
    crop: tuple[float, float, float, float] | None = None
    """Left, top, width, height of the part that is looked at."""
    rotate: int = 0
    """Degrees clockwise."""

    def __post_init__(self) -> None:
        for polygon in self.masks:
            if len(polygon) < 3:
                raise ValueError(f"mask needs at least 3 corners, got {len(polygon)}")
            if not all(0 <= value <= 1 for point in polygon for value in point):
                raise ValueError("mask: corners are shares of the frame, from 0 to 1")
        if self.crop is not None:
            left, top, width, height = self.crop
            inside = 0 <= left < 1 and 0 <= top < 1 and left + width <= 1 + 1e-9 and top + height <= 1 + 1e-9
            if not (inside and width > 0 and height > 0):
                raise ValueError(
                    "crop: left, top, width and height are shares of the frame, and must lie inside it"
                )
        if self.rotate not in ROTATIONS:
            raise ValueError(f"rotate must be one of {', '.join(map(str, ROTATIONS))}, got {self.rotate}")

    def aspect(self, width: int, height: int) -> float:
        """Width by height of what is seen of a frame of that size."""
        _, _, wide, high = self.crop or (0.0, 0.0, 1.0, 1.0)
        seen = (width * wide) / (height * high)
        return 1 / seen if self.rotate in (90, 270) else seen


def parse_polygon(text: str) -> Polygon:
    """``0,0 0.3,0 0.3,1 0,1`` -> corners. Raises ValueError for a text of another form."""
    corners = [_numbers(part) for part in re.split(r"[\s;]+", text.strip()) if part]
    if any(len(corner) != 2 for corner in corners) or len(corners) < 3:
        raise ValueError(f'{text!r}: expected at least 3 corners, such as "0,0 0.3,0 0.3,1 0,1"')
    return tuple((corner[0], corner[1]) for corner in corners)


def parse_crop(text: str) -> tuple[float, float, float, float]:
    """``left,top,width,height``. Raises ValueError for a text of another form."""
    values = _numbers(text)
    if len(values) != 4:
        raise ValueError(f'{text!r}: expected left,top,width,height, such as "0.25,0,0.5,1"')
    return values[0], values[1], values[2], values[3]


def _numbers(text: str) -> Sequence[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) else ()
