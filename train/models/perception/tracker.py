"""Objects over time: detections of a frame and the slots of the frame before become the slots of this frame.

A slot holds one object as long as it is seen, and for a few frames after it was last seen. A detector's
misses then do not look like departures, and departures can be seen at all. Like the detections this is dense
arithmetic with static shapes: it runs in the exported graph, and over many simulated clips at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from train.models.perception.detections import Detections


@dataclass(frozen=True)
class TrackerConfig:
    """``slots`` (K) objects are followed; an unseen one is kept for ``keep_frames`` frames.

    ``reach``: how far an object may be from where it was, or where its velocity takes it, in shares of its
    own size (the square root of its area). ``class_memory``: weight of the past in the class scores.
    """

    slots: int = 10
    keep_frames: int = 4
    reach: float = 2.5
    class_memory: float = 0.6


class Slots(NamedTuple):
    """What is known of K objects. All tensors are [B, K, ...] float; a free slot is zero everywhere.

    ``age``: frames since it was first seen. ``missing``: frames since it was last seen, 0 when it is
    seen now. ``velocity``: of the centre, in shares of the picture a frame. ``growth``: log of the height
    against the frame before. ``scores``: class scores [B, K, C], averaged over time.
    """

    taken: Tensor
    boxes: Tensor
    velocity: Tensor
    growth: Tensor
    age: Tensor
    missing: Tensor
    scores: Tensor
    colours: Tensor

    @classmethod
    def empty(cls, batch: int, slots: int, classes: int) -> Slots:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, slots, *shape)

        return cls(zeros(), zeros(4), zeros(2), zeros(), zeros(), zeros(), zeros(classes), zeros(6))

    def pack(self) -> Tensor:
        """One tensor [B, K, 16 + C], as the exported graph hands it from frame to frame."""
        scalars = torch.stack([self.taken, self.growth, self.age, self.missing], dim=-1)
        return torch.cat([scalars, self.boxes, self.velocity, self.colours, self.scores], dim=-1)

    @classmethod
    def unpack(cls, packed: Tensor) -> Slots:
        """The inverse of :meth:`pack`."""
        taken, growth, age, missing = packed[..., :4].unbind(-1)
        boxes, velocity, colours, scores = packed[..., 4:].split([4, 2, 6, packed.shape[-1] - 16], dim=-1)
        return cls(taken, boxes, velocity, growth, age, missing, scores, colours)


def track(seen: Detections, before: Slots, config: TrackerConfig) -> Slots:
    """The slots after a frame with the detections ``seen``.

    Each detection goes to the slot it fits best, if that slot fits no other better. A detection that fits
    none takes a free slot, or the one that has been unseen longest.
    """
    present = (seen.best > 0).float()  # [B, D]
    pairs = _assign(_affinity(seen, before, config), rounds=3)  # [B, D, K], one-hot or zero
    known = pairs.sum(1)  # [B, K]: 1 where the object is seen again
    available = (1 - known) * (1 + before.missing + 1e3 * (1 - before.taken))
    new = _place(present - pairs.sum(2), seen.best, available)
    fresh = new.sum(1)  # [B, K]: 1 where a new object takes the slot

    def moved(value: Tensor) -> Tensor:
        return torch.einsum("bdk,bdf->bkf", pairs + new, value)

    boxes, scores, colours = moved(seen.boxes), moved(seen.scores), moved(seen.colours)
    shift = (_centre(boxes) - _centre(before.boxes)) / (1 + before.missing)[..., None]  # [B, K, 2]
    first = (before.age == 0)[..., None]  # there is no older velocity to average with
    velocity = torch.where(first, shift, (before.velocity + shift) / 2)
    averaged = config.class_memory * before.scores + (1 - config.class_memory) * scores

    gone = (1 - known) * (1 - fresh)
    missing = (before.missing + 1) * before.taken * gone
    limit = torch.where(_going_out(before), 1.0, float(config.keep_frames))
    alive = known + fresh + (missing > 0) * (missing <= limit)  # [B, K], 0 or 1

    def pick(again: Tensor, at_first: Tensor, unseen: Tensor) -> Tensor:
        wide = (
            (known, fresh, gone) if again.ndim == 2 else (known[..., None], fresh[..., None], gone[..., None])
        )
        kept = alive if again.ndim == 2 else alive[..., None]
        return (wide[0] * again + wide[1] * at_first + wide[2] * unseen) * kept

    zero = torch.zeros_like(before.age)
    return Slots(
        taken=alive,
        boxes=pick(boxes, boxes, before.boxes),
        velocity=pick(velocity, torch.zeros_like(velocity), before.velocity),
        growth=pick((_height(boxes) / _height(before.boxes)).log(), zero, zero),
        age=pick(before.age + 1, zero, before.age + 1),
        missing=missing * alive,
        scores=pick(averaged, scores, before.scores),
        colours=pick(colours, colours, before.colours),
    )


def _going_out(slots: Slots) -> Tensor:
    """Whether an object was about to cross a border when it was last seen: bool [B, K].

    When it is not seen any more it has left. Kept longer, its slot would go to the next who comes in there.
    """
    edge = 0.03
    x1, y1, x2, y2 = slots.boxes.unbind(-1)
    right, down = slots.velocity.unbind(-1)
    sideways = (x1 + right < edge) & (right < 0) | (x2 + right > 1 - edge) & (right > 0)
    return sideways | (y1 + down < edge) & (down < 0) | (y2 + down > 1 - edge) & (down > 0)


def _affinity(seen: Detections, slots: Slots, config: TrackerConfig) -> Tensor:
    """How well each detection fits each slot [B, D, K]; not above 0: not at all."""
    size = (slots.boxes[..., 2:] - slots.boxes[..., :2]).clamp_min(0).prod(-1).sqrt()  # [B, K]
    seen_size = (seen.boxes[..., 2:] - seen.boxes[..., :2]).clamp_min(0).prod(-1).sqrt()  # [B, D]
    scale = torch.maximum(size[:, None, :], seen_size[:, :, None]).clamp_min(0.02)
    here = _centre(seen.boxes)[:, :, None]  # [B, D, 1, 2]
    stayed = (here - _centre(slots.boxes)[:, None]).norm(dim=-1)
    expected = _centre(slots.boxes) + slots.velocity * (1 + slots.missing)[..., None]
    went_on = (here - expected[:, None]).norm(dim=-1)
    away = torch.minimum(stayed, went_on) / scale  # [B, D, K]
    alike = torch.einsum("bdc,bkc->bdk", _unit(seen.scores), _unit(slots.scores))
    smaller = torch.minimum(size[:, None, :], seen_size[:, :, None]) / scale
    left = _going_out(slots) & (slots.missing > 0)
    open_slot = (slots.taken > 0) & ~left
    fits = (away < config.reach) & (alike > 0.3) & open_slot[:, None, :] & (seen.best[:, :, None] > 0)
    colours = 1 - (seen.colours[:, :, None] - slots.colours[:, None]).abs().mean(-1)
    quality = alike + 0.5 * smaller + 0.5 * colours + 2 * (1 - away / config.reach)
    return torch.where(fits, quality, torch.zeros_like(quality))


def _assign(affinity: Tensor, rounds: int) -> Tensor:
    """Pairs that are each other's best, again among the rest: [B, D, K] -> one-hot [B, D, K]."""
    pairs = torch.zeros_like(affinity)
    for _ in range(rounds):
        best = (affinity == affinity.amax(2, keepdim=True)) & (affinity == affinity.amax(1, keepdim=True))
        chosen = (best & (affinity > 0)).float()
        chosen = chosen * (chosen.cumsum(2) == 1) * (chosen.cumsum(1) == 1)  # of equals the first
        pairs = pairs + chosen
        open_ = (1 - pairs.sum(2, keepdim=True)) * (1 - pairs.sum(1, keepdim=True))
        affinity = affinity * open_
    return pairs


def _place(unmatched: Tensor, score: Tensor, available: Tensor) -> Tensor:
    """The n-th best unmatched detection to the n-th most available slot.

    ``unmatched`` [B, D] 0 or 1; ``available`` [B, K], 0 for a slot that is in use. Returns one-hot [B, D, K].
    """
    rank = _rank(unmatched * score)  # [B, D]
    slot_rank = _rank(available)  # [B, K]
    both = unmatched[:, :, None] * (available > 0)[:, None, :]
    return (rank[:, :, None] == slot_rank[:, None, :]).float() * both


def _rank(value: Tensor) -> Tensor:
    """Position of each value in descending order, ties by index: [B, N] -> [B, N] float."""
    ahead = value[:, None, :] > value[:, :, None]
    index = torch.arange(value.shape[1], device=value.device)
    tied = (value[:, None, :] == value[:, :, None]) & (index[None, None, :] < index[None, :, None])
    return (ahead | tied).float().sum(-1)


def _height(boxes: Tensor) -> Tensor:
    return (boxes[..., 3] - boxes[..., 1]).clamp_min(1e-4)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _unit(scores: Tensor) -> Tensor:
    return scores / scores.norm(dim=-1, keepdim=True).clamp_min(1e-6)
