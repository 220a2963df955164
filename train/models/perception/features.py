"""Object slots as numbers a decoder can read: features of a frame [K + 1, F], the last row for the frame."""

from __future__ import annotations

import torch
from torch import Tensor

from train.models.perception.tracker import Slots
from train.models.perception.zones import ZONES, at_feet

SCALARS = 20
COLOURS = 6
VELOCITY = slice(13, 15)
"""Where the velocity stands in a row."""
MISSING_SCALE = 4
"""The number of frames for which a slot has not been seen stands in a row divided by this."""


def width(classes: int, zones: int = ZONES) -> int:
    """F: numbers in a row. Zones come last: a model that does not know them reads the rest (``zones`` 0)."""
    return SCALARS + COLOURS + classes + zones


def describe(slots: Slots, brightness: Tensor, zones: Tensor) -> Tensor:
    """Slots [B, K, ...] as numbers.

    A slot's row: taken, seen now, new, age, missing, centre, size, nearness of the four borders, velocity,
    growth, score, colours, class scores, in which zones it stands. The frame's row: how many of each class
    are seen now, the brightness, and which share of the frame each zone covers.

    Args:
        slots: what is followed.
        brightness: mean of the frame [B], 0..1.
        zones: [B, Z, G, G], as :func:`train.models.perception.zones.at_feet` takes it.

    Returns:
        Features [B, K + 1, F].
    """
    x1, y1, x2, y2 = slots.boxes.unbind(-1)
    taken = slots.taken
    seen = taken * (slots.missing == 0)
    borders = torch.stack([x1, y1, 1 - x2, 1 - y2], dim=-1)  # [B, K, 4]
    near = (1 - borders / 0.15).clamp(0, 1) * taken[..., None]
    zero = torch.zeros_like(taken)
    scalars = torch.stack(
        [
            taken,
            seen,
            taken * (slots.age == 0),
            (1 + slots.age).log() / 4 * taken,
            slots.missing / MISSING_SCALE,
            (x1 + x2) / 2,
            (y1 + y2) / 2,
            x2 - x1,
            y2 - y1,
            *near.unbind(-1),
            *(slots.velocity * 5).clamp(-2, 2).unbind(-1),
            (slots.growth * 3).clamp(-2, 2),
            slots.scores.amax(-1),
            zero,
            zero,
            zero,
        ],
        dim=-1,
    )  # [B, K, SCALARS]
    stands = at_feet(zones, slots.boxes) * taken[..., None]  # [B, K, Z]
    rows = torch.cat([scalars, slots.colours, slots.scores, stands], dim=-1)
    counts = (slots.scores * seen[..., None]).sum(1)  # [B, C]
    batch = taken.shape[0]
    whole = torch.cat(
        [
            torch.zeros(batch, SCALARS - 3, device=taken.device),
            brightness[:, None],
            seen.sum(1, keepdim=True) / taken.shape[1],
            torch.ones(batch, 1, device=taken.device),
            torch.zeros(batch, COLOURS, device=taken.device),
            counts,
            zones.mean((2, 3)),
        ],
        dim=-1,
    )
    return torch.cat([rows, whole[:, None]], dim=1)
