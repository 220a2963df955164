"""Where a cache's slots lie in memory, and which positions their keys are rotated to. Bookkeeping, no keys.

The window counts slots from 0, the oldest first, and closes up when a block of turns leaves. Memory need not
follow. Attention asks neither in which order the slots before a chunk lie, only that they are the first ones,
nor where the count of positions begins, only how far apart they are. So when a block leaves,

- slots from the end fill its places: as many slots are copied as have left, not all that came after them;
- all positions are counted from a new *base*, chosen so that the most keys stay as they are: it is the few
  pinned slots in front of the block that are rotated forward, not the many behind it that are rotated back.

The base grows until the graph's table of angles ends (``model.rotary_positions``). Then all keys are rotated
back, and it is 0 again. With a table that has no more positions than the cache has slots the base stays 0:
there the keys behind the block are rotated back each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.window import EvictionPlan

Slots = NDArray[np.int64]


@dataclass(frozen=True)
class Relocation:
    """What an eviction does to memory. ``n`` slots stay in use; all slots named here are places in memory."""

    sources: Slots
    targets: Slots
    """Places that the kept slots at ``sources`` are copied to: those that left are free; no place is in both.
    """
    before: Slots
    after: Slots
    """Place of each kept slot, oldest first, [n]."""
    deltas: Slots
    """By how many positions its key is rotated, [n]."""
    pinned: NDArray[np.bool_]
    """Whether no eviction of turns removes it, [n]."""
    base: int


class SlotPlacement:
    """Of one cache of ``capacity`` slots; ``positions``: how many the graph has angles for."""

    def __init__(self, capacity: int, positions: int) -> None:
        self._identity = np.arange(capacity, dtype=np.int64)
        self._places = self._identity.copy()
        self._positions = positions
        self.base = 0
        """What is added to the window's positions."""

    def begin(self, start: int) -> None:
        """Slots ``start ..`` are about to be written: what lay there is forgotten."""
        self._places[start:] = self._identity[start:]

    def places(self, slots: int) -> Slots:
        """Places of the window's first ``slots`` slots, [slots]."""
        return self._places[:slots].copy()

    def plan(self, eviction: EvictionPlan) -> Relocation:
        """What ``eviction`` does; nothing has changed until it is taken over."""
        still = eviction.moves[0].target if eviction.moves else eviction.slots
        ranges = [(0, still, 0)] + [(move.source, move.slots, move.position_delta) for move in eviction.moves]
        kept = np.concatenate([self._places[first : first + slots] for first, slots, _ in ranges])
        deltas = np.repeat([delta for *_, delta in ranges], [slots for _, slots, _ in ranges])
        pinned = np.repeat(
            [segment.pinned for segment in eviction.kept],
            [segment.slots for segment in eviction.kept],
        ).astype(bool)
        leaving = kept >= len(kept)
        free = np.ones(len(kept), dtype=bool)
        free[kept[~leaving]] = False
        targets = np.flatnonzero(free)
        after = kept.copy()
        after[leaving] = targets
        growth = self._growth(deltas)
        return Relocation(
            kept[leaving], targets, kept, after, deltas + growth, pinned, base=self.base + growth
        )

    def take(self, relocation: Relocation) -> None:
        """The slots have moved and the keys are rotated."""
        self.begin(len(relocation.after))
        self._places[: len(relocation.after)] = relocation.after
        self.base = relocation.base

    def _growth(self, deltas: Slots) -> int:
        """How much the base grows, so that the fewest keys are rotated; back to 0 at the table's end."""
        last = self._positions - len(self._identity)  # the largest base with a position for every slot
        amounts, counts = np.unique(-deltas, return_counts=True)
        growth = int(amounts[counts.argmax()]) if len(amounts) else 0
        return growth if self.base + growth <= last else -self.base
