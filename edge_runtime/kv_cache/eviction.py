"""Evicting rows of a cache: the plan of :mod:`edge_runtime.kv_cache.placement` carried out on a backend's
memory.

Turns are copied whole and turn once in a long while. Pinned rows turn with every block, for months: each of
their keys is remembered as it was first and turned from there, so that no rounding piles up, whatever type
the cache is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.placement import Relocation, Rows, SlotPlacement
from edge_runtime.kv_cache.rope import from_pairs, rotations
from edge_runtime.kv_cache.window import EvictionPlan

_BLOCK_ROWS = 512
"""Rows turned at a time: what is computed in between stays in a core's cache."""


class KVStore(Protocol):
    """Keys and values in a backend's memory. Rows are places in it, ascending or not."""

    @property
    def parts(self) -> Sequence[slice]:
        """Layers whose keys are read and written together."""
        ...

    def copy_rows(self, sources: Rows, targets: Rows) -> None:
        """Copy keys and values of every layer. No row is in both."""
        ...

    def read_pairs(self, layers: slice, rows: Rows) -> NDArray[np.complex64]:
        """Keys [l, Hkv, n, Dh / 2], see :func:`edge_runtime.kv_cache.rope.to_pairs`; a copy."""
        ...

    def write_pairs(self, layers: slice, rows: Rows, pairs: NDArray[np.complex64]) -> None:
        """The reverse of :meth:`read_pairs`."""
        ...

    def read_values(self, rows: Rows) -> NDArray[np.float32]:
        """[L, Hkv, n, Dh], a copy."""
        ...


class SlotStore:
    """Rows of one stream's cache. ``frequencies`` [Dh / 2] radians a position; sizes as of
    :class:`SlotPlacement`.
    """

    def __init__(
        self, store: KVStore, capacity: int, positions: int, frequencies: NDArray[np.float64]
    ) -> None:
        self._store = store
        self._frequencies = frequencies
        self._placement = SlotPlacement(capacity, positions)
        self._pinned: Rows = np.empty(0, np.int64)  # places of the rows whose first keys are held
        self._turns: Rows = np.empty(0, np.int64)  # how far each has turned since
        self._originals: NDArray[np.complex64] = np.empty((0, 0, 0, 0), np.complex64)  # [L, Hkv, n, Dh / 2]
        self._scratch = self._originals  # fresh memory would cost more than the arithmetic

    def begin(self, start: int) -> int:
        """Rows ``start ..`` are about to be written. Returns what to add to the window's positions."""
        self._placement.begin(start)
        stay = self._pinned < start
        if not stay.all():
            self._pinned, self._turns = self._pinned[stay], self._turns[stay]
            self._originals = self._originals[:, :, stay]
        if self._placement.base and len(self._pinned) == start:
            # No other rows: a stream begins anew after its prompt, and gives what it gave the first time.
            self._turns -= self._placement.base
            self._write_pinned(np.arange(start))
            self._placement.base = 0
        return self._placement.base

    def read(self, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The window's first ``rows`` keys and values [L, Hkv, rows, Dh] each, as they would lie had every
        row that left never been there.
        """
        places = self._placement.places(rows)
        pairs = self._store.read_pairs(slice(None), places)
        pairs *= rotations(np.array([-self._placement.base]), self._frequencies)
        return from_pairs(pairs), self._store.read_values(places)

    def evict(self, plan: EvictionPlan) -> None:
        """Do what the plan says; the rows in use are the first ones afterwards."""
        moved = self._placement.plan(plan)
        self._store.copy_rows(moved.sources, moved.targets)
        self._turn_pinned(moved)
        others = np.flatnonzero((moved.turns != 0) & ~moved.pinned)
        others = others[np.argsort(moved.after[others])]  # neighbours in memory are turned together
        factors = rotations(moved.turns[others], self._frequencies)
        rows = moved.after[others]
        for layers in self._store.parts:
            for first in range(0, len(rows), _BLOCK_ROWS):
                block = slice(first, first + _BLOCK_ROWS)
                pairs = self._store.read_pairs(layers, rows[block])
                np.multiply(pairs, factors[block], out=pairs)
                self._store.write_pairs(layers, rows[block], pairs)
        self._placement.take(moved)

    def _turn_pinned(self, moved: Relocation) -> None:
        pinned = np.flatnonzero(moved.pinned)
        self._remember(moved.before[pinned], moved.after[pinned])
        self._turns += moved.turns[pinned]
        self._write_pinned(np.flatnonzero(moved.turns[pinned]))

    def _write_pinned(self, which: Rows) -> None:
        if not len(which):
            return
        every = len(which) == len(self._pinned)  # the usual case: no copy
        originals = self._originals if every else self._originals[:, :, which]
        if self._scratch.shape != originals.shape:
            self._scratch = np.empty_like(originals)
        factors = rotations(self._turns[which], self._frequencies)
        pairs = np.multiply(originals, factors, out=self._scratch)
        self._store.write_pairs(slice(None), self._pinned[which], pairs)

    def _remember(self, before: Rows, after: Rows) -> None:
        """Hold the keys of the pinned rows that lay at ``before`` and lie at ``after`` now, and no others."""
        if not np.array_equal(before, self._pinned):
            known = {int(row): index for index, row in enumerate(self._pinned)}
            places = np.array([known.get(int(row), -1) for row in before], dtype=np.int64)
            old, new = places >= 0, places < 0
            read = self._store.read_pairs(slice(None), after)  # [L, Hkv, n, Dh / 2]
            if old.any():
                read[:, :, old] = self._originals[:, :, places[old]]
            self._originals = read
            self._turns = np.where(new, 0, self._turns[places] if len(self._turns) else 0)
        self._pinned = after
