"""Named zones of a camera's frame, and the grid of numbers that a model reads of them.

NumPy is imported when a grid is made: edge-run.toml is read without it, so `edge-run --help` starts fast.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.errors import ConfigError
from edge_runtime.video.framing import Framing, Polygon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLES = 4
"""Points a side of a cell that are tested: a cell on an edge gets the share that lies inside."""
LONGEST_NAME = 40


@dataclass(frozen=True)
class Zone:
    """A part of the frame with a name that questions may use.

    ``polygon``: corners in shares of the frame as the camera sends it, like those of masks. Raises ValueError
    naming what cannot be.
    """

    name: str
    polygon: Polygon

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w(?:[^\n]*\w)?", self.name) or len(self.name) > LONGEST_NAME:
            raise ValueError(
                f"name: expected at most {LONGEST_NAME} letters on one line, the first and the last a letter "
                f"or a digit, got {self.name[: LONGEST_NAME + 1]!r}"
            )
        if len(self.polygon) < 3:
            raise ValueError(f"polygon: expected at least 3 corners, got {len(self.polygon)}")
        if not all(0 <= value <= 1 for point in self.polygon for value in point):
            raise ValueError("polygon: corners are shares of the frame, from 0 to 1")


def camera_grid(zones: Sequence[Zone], framing: Framing, count: int, grid: int) -> NDArray[np.float32]:
    """Rasterise a camera's zones as the model sees its frame: cropped and rotated.

    Returns float32 [1, ``count``, ``grid``, ``grid``]. Raises ConfigError for more zones than ``count`` and
    for one that the crop leaves nothing of.
    """
    if len(zones) > count:
        raise ConfigError(f"{len(zones)} zones, but the model knows {count}; remove some [[camera.zone]]")
    cells = occupancy([as_seen(zone.polygon, framing) for zone in zones], count, grid)
    for number, zone in enumerate(zones):
        if not cells[0, number].any():
            reason = "lies outside the crop" if framing.crop else "covers nothing of the frame"
            raise ConfigError(f"zone {zone.name}: it {reason}; change its polygon")
    return cells


def occupancy(polygons: Sequence[Polygon], count: int, grid: int) -> NDArray[np.float32]:
    """Rasterise zones.

    Args:
        polygons: at most ``count``, corners in shares of the frame that the model sees; an empty one is no
            zone.
        count: zones that the model knows (Z).
        grid: cells a side (G).

    Returns:
        float32 [1, Z, G, G], rows from the top: the share of each cell inside each zone. Zeros for zones that
        are not there.
    """
    import numpy as np

    cells = np.zeros((1, count, grid, grid), np.float32)
    fine = (np.arange(grid * SAMPLES) + 0.5) / (grid * SAMPLES)
    x, y = np.meshgrid(fine, fine)
    for number, polygon in enumerate(polygons):
        inside = contains(polygon, x, y).reshape(grid, SAMPLES, grid, SAMPLES)
        cells[0, number] = inside.mean(axis=(1, 3))
    return cells


def contains(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie inside a polygon, which may be concave; edges that cross leave holes (even-odd)."""
    import numpy as np

    inside = np.zeros(np.broadcast(x, y).shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return inside


def as_seen(polygon: Polygon, framing: Framing) -> Polygon:
    """Place a polygon of the camera's frame in the frame that the model sees.

    Returns the corners in shares of the frame after crop and rotation, also outside 0..1.
    """
    left, top, width, height = framing.crop or (0.0, 0.0, 1.0, 1.0)
    corners = tuple(((x - left) / width, (y - top) / height) for x, y in polygon)
    for _ in range(framing.rotate // 90):
        corners = tuple((1 - y, x) for x, y in corners)
    return corners
