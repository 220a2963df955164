"""Named zones of a camera's frame, and the grid of numbers that a model reads of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.video.framing import Polygon

SAMPLES = 4
"""Points a side of a cell that are tested: a cell on an edge gets the share that lies inside."""


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
    cells = np.zeros((1, count, grid, grid), np.float32)
    fine = (np.arange(grid * SAMPLES) + 0.5) / (grid * SAMPLES)
    x, y = np.meshgrid(fine, fine)
    for number, polygon in enumerate(polygons):
        inside = contains(polygon, x, y).reshape(grid, SAMPLES, grid, SAMPLES)
        cells[0, number] = inside.mean(axis=(1, 3))
    return cells


def contains(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie inside a polygon, which may be concave; edges that cross leave holes (even-odd)."""
    inside = np.zeros(np.broadcast(x, y).shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return inside
