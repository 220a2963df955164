"""Evicts slots of a cache: a plan of :mod:`edge_runtime.kv_cache.placement`, done on a backend's memory.

Keys of turns are rotated once in a long while. Keys of pinned slots are rotated with every block, for months:
each is remembered as it was first and rotated from there, so that rounding does not accumulate, whatever type
the cache is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.placement import Relocation, SlotPlacement, Slots
from edge_runtime.kv_cache.rope import from_pairs, rotations
from edge_runtime.kv_cache.window import EvictionPlan

_BLOCK_SLOTS = 512
"""Slots rotated at a time: what is computed in between stays in a core's cache."""


class KVStore(Protocol):
    """Keys and values in a backend's memory. Slots are places in it, ascending or not."""

    @property
    def parts(self) -> Sequence[slice]:
        """Layers whose keys are read and written together."""
        ...

    def copy_slots(self, sources: Slots, targets: Slots) -> None:
        """Copy keys and values of every layer. No slot is in both."""
        ...

    def read_pairs(self, layers: slice, slots: Slots) -> NDArray[np.complex64]:
        """Keys [l, Hkv, n, Dh / 2], see :func:`edge_runtime.kv_cache.rope.to_pairs`; a copy."""
        ...

    def write_pairs(self, layers: slice, slots: Slots, pairs: NDArray[np.complex64]) -> None:
        """The reverse of :meth:`read_pairs`."""
        ...

    def read_values(self, slots: Slots) -> NDArray[np.float32]:
        """[L, Hkv, n, Dh], a copy."""
        ...


class CacheSlots:
    """Slots of one stream's cache. ``frequencies`` [Dh / 2] radians a position; sizes as of
    :class:`SlotPlacement`.
    """

    def __init__(
        self, store: KVStore, capacity: int, positions: int, frequencies: NDArray[np.float64]
    ) -> None:
        self._store = store
        self._frequencies = frequencies
        self._placement = SlotPlacement(capacity, positions)
        self._pinned: Slots = np.empty(0, np.int64)  # places of the slots whose first keys are held
        self._deltas: Slots = np.empty(0, np.int64)  # by how many positions each was rotated since
        self._originals: NDArray[np.complex64] = np.empty((0, 0, 0, 0), np.complex64)  # [L, Hkv, n, Dh / 2]
        self._scratch = self._originals  # fresh memory would cost more than the arithmetic

    def begin(self, start: int) -> int:
        """Slots ``start ..`` are about to be written. Returns what to add to the window's positions."""
        self._placement.begin(start)
        stay = self._pinned < start
        if not stay.all():
            self._pinned, self._deltas = self._pinned[stay], self._deltas[stay]
            self._originals = self._originals[:, :, stay]
        if self._placement.base and len(self._pinned) == start:
            # No other slots: a stream begins anew after its prompt, and gives what it gave the first time.
            self._deltas -= self._placement.base
            self._write_pinned(np.arange(start))
            self._placement.base = 0
        return self._placement.base

    def read(self, slots: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The window's first ``slots`` keys and values [L, Hkv, slots, Dh] each, as they would lie had every
        slot that left never been there.
        """
        places = self._placement.places(slots)
        pairs = self._store.read_pairs(slice(None), places)
        pairs *= rotations(np.array([-self._placement.base]), self._frequencies)
        return from_pairs(pairs), self._store.read_values(places)

    def evict(self, plan: EvictionPlan) -> None:
        """Do what the plan says; the slots in use are the first ones afterwards."""
        moved = self._placement.plan(plan)
        self._store.copy_slots(moved.sources, moved.targets)
        self._rotate_pinned(moved)
        others = np.flatnonzero((moved.deltas != 0) & ~moved.pinned)
        others = others[np.argsort(moved.after[others])]  # neighbours in memory are rotated together
        factors = rotations(moved.deltas[others], self._frequencies)
        slots = moved.after[others]
        for layers in self._store.parts:
            for first in range(0, len(slots), _BLOCK_SLOTS):
                block = slice(first, first + _BLOCK_SLOTS)
                pairs = self._store.read_pairs(layers, slots[block])
                np.multiply(pairs, factors[block], out=pairs)
                self._store.write_pairs(layers, slots[block], pairs)
        self._placement.take(moved)

    def _rotate_pinned(self, moved: Relocation) -> None:
        pinned = np.flatnonzero(moved.pinned)
        self._remember(moved.before[pinned], moved.after[pinned])
        self._deltas += moved.deltas[pinned]
        self._write_pinned(np.flatnonzero(moved.deltas[pinned]))

    def _write_pinned(self, which: Slots) -> None:
        if not len(which):
            return
        every = len(which) == len(self._pinned)  # the usual case: no copy
        originals = self._originals if every else self._originals[:, :, which]
        if self._scratch.shape != originals.shape:
            self._scratch = np.empty_like(originals)
        factors = rotations(self._deltas[which], self._frequencies)
        pairs = np.multiply(originals, factors, out=self._scratch)
        self._store.write_pairs(slice(None), self._pinned[which], pairs)

    def _remember(self, before: Slots, after: Slots) -> None:
        """Hold the keys of the pinned slots that were at ``before``, are at ``after`` now, and no others."""
        if not np.array_equal(before, self._pinned):
            known = {int(slot): index for index, slot in enumerate(self._pinned)}
            places = np.array([known.get(int(slot), -1) for slot in before], dtype=np.int64)
            old, new = places >= 0, places < 0
            read = self._store.read_pairs(slice(None), after)  # [L, Hkv, n, Dh / 2]
            if old.any():
                read[:, :, old] = self._originals[:, :, places[old]]
            self._originals = read
            self._deltas = np.where(new, 0, self._deltas[places] if len(self._deltas) else 0)
        self._pinned = after
