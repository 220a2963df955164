"""What a detector saw in a frame: at most ``TOP`` boxes, overlaps removed, in the order of their scores.

Everything here is dense tensor arithmetic with static shapes, so that the same code runs over thousands of
simulated clips at once and becomes part of the exported vision graph.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CANDIDATES = 64
"""Boxes that are compared pairwise."""
MIN_SCORE = 0.3
MAX_OVERLAP = 0.55
"""Intersection over union from which the lower score of two boxes goes."""
MAX_INSIDE = 0.8
"""Share of a box inside a better one of the same class from which it goes: detectors double one person."""


class Detections(NamedTuple):
    """``boxes`` [B, K, 4] as x1, y1, x2, y2 in shares of the frame; ``scores`` [B, K, C]; empty places are 0.

    ``colours`` [B, K, 6]: mean RGB (0..1) of the upper and of the lower half of the box.
    """

    boxes: Tensor
    scores: Tensor
    colours: Tensor

    @property
    def best(self) -> Tensor:
        """Score of the most likely class [B, K]; 0 for an empty place."""
        return self.scores.amax(-1)


def select(boxes: Tensor, scores: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Remove weak and overlapping boxes.

    Args:
        boxes: [B, M, 4] as x1, y1, x2, y2.
        scores: [B, M, C] in 0..1.
        keep: how many places (K) the result has.

    Returns:
        ``boxes`` [B, K, 4] and ``scores`` [B, K, C], best first, zero where nothing is left.
    """
    best, order = scores.amax(-1).topk(CANDIDATES, dim=1)  # [B, N]
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    scores = scores.gather(1, order[..., None].expand(-1, -1, scores.shape[-1]))

    area = _area(boxes)  # [B, N]
    shared = intersection(boxes, boxes)  # [B, N, N]
    union = area[:, :, None] + area[:, None, :] - shared
    inside = shared / area[:, :, None].clamp_min(1e-9)  # share of box i inside box j
    kinds = scores.argmax(-1)  # [B, N]
    same = kinds[:, :, None] == kinds[:, None, :]
    clash = (shared / union.clamp_min(1e-9) > MAX_OVERLAP) | ((inside > MAX_INSIDE) & same)
    earlier = torch.ones(CANDIDATES, CANDIDATES, device=boxes.device).tril(-1).bool()
    lost = (clash & earlier).any(-1) | (best < MIN_SCORE)  # [B, N]

    kept, order = torch.where(lost, torch.zeros_like(best), best).topk(keep, dim=1)  # [B, K]
    there = (kept > 0)[..., None]
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4)) * there
    scores = scores.gather(1, order[..., None].expand(-1, -1, scores.shape[-1])) * there
    return boxes, scores


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared area of every pair: [B, N, 4], [B, M, 4] -> [B, N, M]."""
    corner = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:]) - torch.maximum(
        a[:, :, None, :2], b[:, None, :, :2]
    )
    return corner.clamp_min(0).prod(-1)


def half_colours(picture: Tensor, boxes: Tensor) -> Tensor:
    """Mean colour of the upper and the lower half of each box.

    ``picture`` [B, 3, H, W] in 0..1, small (about 100 rows are enough); ``boxes`` [B, K, 4] in shares of it.
    Returns [B, K, 6].
    """
    height, width = picture.shape[2:]
    x1, y1, x2, y2 = boxes.unbind(-1)
    middle = (y1 + y2) / 2
    # The middle half of the width: the sides of a box are mostly background.
    quarter = (x2 - x1) / 4
    columns = _inside(x1 + quarter, x2 - quarter, width)  # [B, K, W]
    halves = []
    for top, bottom in ((y1, middle), (middle, y2)):
        rows = _inside(top, bottom, height)  # [B, K, H]
        weight = rows.sum(-1) * columns.sum(-1)  # [B, K]
        over_rows = torch.einsum("bkh,bchw->bkcw", rows, picture)
        halves.append(torch.einsum("bkcw,bkw->bkc", over_rows, columns) / weight[..., None].clamp_min(1e-6))
    return torch.cat(halves, dim=-1)


def _inside(start: Tensor, end: Tensor, size: int) -> Tensor:
    """1 for the cells of a side between ``start`` and ``end`` [B, K] (shares), at least one: [B, K, size]."""
    centres = (torch.arange(size, device=start.device) + 0.5) / size
    half = ((end - start).clamp_min(1.0 / size) / 2)[..., None]
    return ((centres - ((start + end) / 2)[..., None]).abs() <= half).float()


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
