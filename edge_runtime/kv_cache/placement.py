"""Where a cache's rows lie in memory, and which positions their keys are turned to. Bookkeeping, no keys.

The window counts rows from 0, the oldest first, and closes up when a block of turns leaves. Memory need not
follow. Attention asks neither in which order the rows before a chunk lie, only that they are the first ones,
nor where the count of positions begins, only how far apart they are. So when a block leaves,

- rows from the end fill its places: as many rows are copied as have left, not all that came after them;
- all positions are counted from a new *base*, chosen so that the most keys stay as they are: it is the few
  pinned rows in front of the block that turn forward, not the many behind it that turn back.

The base grows until the graph's table of angles ends (``model.rotary_positions``). Then all keys turn back,
and it is 0 again. A graph whose table has a row's worth for each row of the cache keeps the base at 0: there
the keys behind the block turn back each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.window import EvictionPlan

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Relocation:
    """What an eviction does to memory. ``n`` rows stay in use; all rows named here are places in memory."""

    sources: Rows
    targets: Rows
    """Places that the kept rows at ``sources`` are copied to: those that left are free; no place is in both.
    """
    before: Rows
    after: Rows
    """Place of each kept row, oldest first, [n]."""
    turns: Rows
    """By how many positions its key turns, [n]."""
    pinned: NDArray[np.bool_]
    """Whether no eviction of turns removes it, [n]."""
    base: int


class SlotPlacement:
    """Of one cache of ``capacity`` rows; ``positions``: how many the graph has angles for."""

    def __init__(self, capacity: int, positions: int) -> None:
        self._identity = np.arange(capacity, dtype=np.int64)
        self._places = self._identity.copy()
        self._positions = positions
        self.base = 0
        """What is added to the window's positions."""

    def begin(self, start: int) -> None:
        """Rows ``start ..`` are about to be written: what lay there is forgotten."""
        self._places[start:] = self._identity[start:]

    def places(self, rows: int) -> Rows:
        """Places of the window's first ``rows`` rows, [rows]."""
        return self._places[:rows].copy()

    def plan(self, eviction: EvictionPlan) -> Relocation:
        """What ``eviction`` does; nothing has changed until it is taken over."""
        still = eviction.moves[0].target if eviction.moves else eviction.rows
        ranges = [(0, still, 0)] + [(move.source, move.rows, move.shift) for move in eviction.moves]
        kept = np.concatenate([self._places[first : first + rows] for first, rows, _ in ranges])
        shifts = np.repeat([shift for *_, shift in ranges], [rows for _, rows, _ in ranges])
        pinned = np.repeat(
            [segment.kind != "turn" for segment in eviction.kept],
            [segment.rows for segment in eviction.kept],
        ).astype(bool)
        leaving = kept >= len(kept)
        free = np.ones(len(kept), dtype=bool)
        free[kept[~leaving]] = False
        targets = np.flatnonzero(free)
        after = kept.copy()
        after[leaving] = targets
        growth = self._growth(shifts)
        return Relocation(
            kept[leaving], targets, kept, after, shifts + growth, pinned, base=self.base + growth
        )

    def take(self, relocation: Relocation) -> None:
        """The rows have moved and the keys are turned."""
        self.begin(len(relocation.after))
        self._places[: len(relocation.after)] = relocation.after
        self.base = relocation.base

    def _growth(self, shifts: Rows) -> int:
        """How much the base grows, so that the fewest keys turn; back to 0 where the angles would end."""
        last = self._positions - len(self._identity)  # the largest base with a position for every row
        amounts, rows = np.unique(-shifts, return_counts=True)
        growth = int(amounts[rows.argmax()]) if len(amounts) else 0
        return growth if self.base + growth <= last else -self.base
