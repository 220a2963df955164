"""In which of a camera's zones an object stands: the zones' grid at the foot of its box."""

from __future__ import annotations

import torch
from torch import Tensor

ZONES = 4
"""Zones (Z) that a model knows, "zone 1" to "zone 4" in questions and responses."""
GRID = 32
"""Cells (G) of a side of the grid."""


def no_zones(batch: int = 1) -> Tensor:
    """The grid of a camera without zones [B, Z, G, G]."""
    return torch.zeros(batch, ZONES, GRID, GRID)


def at_feet(zones: Tensor, boxes: Tensor) -> Tensor:
    """Read the grid where objects stand, interpolated between the cells.

    The middle of a box's lower edge counts, also for objects that are not on the ground. Rows and columns are
    weighted by products, which every engine can run; a gather by index is not needed.

    Args:
        zones: [B, Z, G, G], the share of each cell inside each zone; the grid covers the frame without its
            black borders.
        boxes: [B, K, 4] as x1, y1, x2, y2 in shares of the same.

    Returns:
        [B, K, Z], 1 inside a zone and 0 outside; about half a cell from its edge in between.
    """
    across = _weights((boxes[..., 0] + boxes[..., 2]) / 2, zones.shape[-1])  # [B, K, G]
    down = _weights(boxes[..., 3], zones.shape[-2])
    rows = torch.matmul(down[:, None], zones)  # [B, Z, K, G]
    return (rows * across[:, None]).sum(-1).transpose(1, 2)


def _weights(place: Tensor, cells: int) -> Tensor:
    """Weights of the cells of a side for a place on it [B, K] (shares): [B, K, cells], sum 1."""
    centre = (place * cells - 0.5).clamp(0, cells - 1)[..., None]
    index = torch.arange(cells, dtype=place.dtype, device=place.device)
    return (1 - (centre - index).abs()).clamp_min(0)
