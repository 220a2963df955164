"""Keys and values in the processor's memory, as evictions read and write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.placement import Slots
from edge_runtime.kv_cache.rope import from_pairs, to_pairs


class HostStore:
    """See :class:`edge_runtime.kv_cache.eviction.KVStore`. ``cache`` [L, 2, Hkv, C, Dh]: keys and values of
    each layer, contiguous; float32, float16, or int8 with ``scales`` [L, 2, Hkv, 1, Dh].
    """

    def __init__(self, cache: NDArray[Any], scales: NDArray[np.float32] | None = None) -> None:
        layers, _, _, capacity, width = cache.shape
        self.parts = [slice(layer, layer + 1) for layer in range(layers)]
        self._keys, self._values = cache[:, 0], cache[:, 1]
        self._scales = scales
        # One item for each slot: copied whole, whatever it holds.
        self._blocks = cache.view(np.dtype((np.void, width * cache.itemsize))).reshape(-1, capacity)

    def copy_slots(self, sources: Slots, targets: Slots) -> None:
        for block in self._blocks:  # [C]; one after the other: what is read is still in the core's cache
            block[targets] = block.take(sources)

    def read_pairs(self, layers: slice, slots: Slots) -> NDArray[np.complex64]:
        keys = self._keys[layers][:, :, _index(slots)]
        return to_pairs(keys if self._scales is None else keys * self._scales[layers, 0])

    def write_pairs(self, layers: slice, slots: Slots, pairs: NDArray[np.complex64]) -> None:
        keys = self._keys[layers]
        if isinstance(index := _index(slots), slice) and self._scales is None:
            from_pairs(pairs, out=keys[:, :, index])
            return
        rotated = from_pairs(pairs)
        if self._scales is not None:
            rotated /= self._scales[layers, 0]
            np.clip(np.rint(rotated, out=rotated), -128, 127, out=rotated)
        keys[:, :, index] = rotated

    def read_values(self, slots: Slots) -> NDArray[np.float32]:
        values = self._values[:, :, slots].astype(np.float32)
        return values if self._scales is None else values * self._scales[:, 1]


def _index(slots: Slots) -> Slots | slice:
    """Neighbours are taken as a slice, without a copy."""
    if len(slots) and np.array_equal(slots, np.arange(slots[0], slots[0] + len(slots))):
        return slice(int(slots[0]), int(slots[0]) + len(slots))
    return slots
