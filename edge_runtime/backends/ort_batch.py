"""The decoder for several sessions in ONNX Runtime (:mod:`export.decoder.batch` makes the graph).

Each session's cache is bound to a place, past and present to the same memory, as in the graph for one. What
a place without a session writes goes to a cache that is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.backends.batcher import Chunk, SteppedCache
from edge_runtime.bundle.manifest import ModelSpec
from edge_runtime.errors import BackendError, BundleError, first_line

if TYPE_CHECKING:
    from edge_runtime.backends.ort_cache import OrtHostCache

_INPUTS = {"inputs_embeds", "position_ids", "write_index", "begin", "end", "logit_rows"}


class OrtBatch:
    """See :class:`edge_runtime.backends.batcher.BatchGraph`. ``scales`` [L, 2, Hkv, 1, Dh]: of an int8
    cache. Raises BundleError for a graph of another version of the export.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        model: ModelSpec,
        places: int,
        dtype: Any,
        scales: NDArray[np.float32] | None,
    ) -> None:
        lacking = _INPUTS - {one.name for one in session.get_inputs()}
        if lacking:
            raise BundleError(
                f"the decoder graph for a batch has no input {min(lacking)}; export the bundle again"
            )
        self._session = session
        self._binding = session.io_binding()
        self._places = places
        self._layers = model.num_layers
        self._logits = np.empty((places, model.vocab_size), np.float32)
        shape = (1, model.num_kv_heads, model.context_rows, model.head_dim)
        self._unused = np.zeros(shape, dtype)
        self._seated: list[OrtHostCache | None] = [None] * places
        self._scales = scales  # bound by address
        for place in range(places):
            self._bind_cache(place, None)
        if scales is not None:
            for layer, pair in enumerate(scales):
                for letter, scale in zip("kv", pair[:, None], strict=True):
                    self._bind_input(f"scale_{letter}.{layer}", scale, scale.shape)

    def step(self, steps: Sequence[tuple[SteppedCache, Chunk]]) -> list[NDArray[np.float32]]:
        wanted = [cast("OrtHostCache", cache) for cache, _ in steps]
        seats = self._seat(wanted)  # the place of each step
        order = sorted(range(len(steps)), key=seats.__getitem__)
        chunks = [steps[i][1] for i in order]
        positions = [wanted[i].begin(steps[i][1]) for i in order]
        lengths = np.array([len(chunk.embeddings) for chunk in chunks])
        rows, width = int(lengths.sum()), chunks[0].embeddings.shape[1]
        ends = np.cumsum(lengths)
        index = np.zeros((3, self._places), np.int64)  # places without a session are given row 0
        index[2, len(steps) :] = 1
        index[:, : len(steps)] = [chunk.start for chunk in chunks], ends - lengths, ends
        last = ends - 1
        inputs: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
            "inputs_embeds": (np.concatenate([chunk.embeddings for chunk in chunks]), (1, rows, width)),
            "position_ids": (np.concatenate(positions, axis=1), (len(positions[0]), 1, rows)),
            "logit_rows": (last, last.shape),
        }
        for name, row in zip(("write_index", "begin", "end"), index, strict=True):
            inputs[name] = row, row.shape
        deepstack = [chunk.deepstack for chunk in chunks if chunk.deepstack is not None]
        if deepstack:
            inputs["deepstack"] = np.concatenate(deepstack, axis=1), (len(deepstack[0]), 1, rows, width)
        for name, (array, shape) in inputs.items():
            self._bind_input(name, array, shape)
        self._bind_output("logits", self._logits[: len(steps)])
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise BackendError(
                f"decoder graph for a batch: onnxruntime failed ({first_line(error)})"
            ) from error
        return [cache.keep(self._logits[seat]) for cache, seat in zip(wanted, seats, strict=True)]

    def _seat(self, caches: Sequence[OrtHostCache]) -> list[int]:
        """Bind ``caches`` to the first places; most sit there from the last time. The place of each."""
        number = len(caches)
        stay = {one: place for place, one in enumerate(self._seated[:number]) if one in caches}
        free = iter([place for place in range(number) if place not in stay.values()])
        seats = [stay[cache] if cache in stay else next(free) for cache in caches]
        wanted: list[OrtHostCache | None] = [None] * self._places
        for cache, seat in zip(caches, seats, strict=True):
            wanted[seat] = cache
        for place, one in enumerate(wanted):
            if one is not self._seated[place]:
                self._bind_cache(place, one)
        self._seated = wanted
        return seats

    def _bind_cache(self, place: int, cache: OrtHostCache | None) -> None:
        for layer in range(self._layers):
            for number, letter in enumerate("kv"):
                buffer = self._unused if cache is None else cache.buffer(layer, number)
                self._bind_input(f"past_{letter}.{layer}.{place}", buffer, buffer.shape)
                self._bind_output(f"present_{letter}.{layer}.{place}", buffer)

    def _bind_input(self, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)

    def _bind_output(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
