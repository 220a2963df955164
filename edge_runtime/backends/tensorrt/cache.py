"""A stream's keys and values in the memory of a GPU, and the TensorRT engine that reads and writes them.

The cache is one block [L, 2, Hkv, C, Dh]; each input of the engine is a part of it. Where the version updates
a cache in place, the outputs are the same parts; elsewhere the engine gives the chunk's slots packed, and one
strided copy puts them there. Lengths that come again, those of silent timesteps, are replayed as CUDA graphs:
addresses never change, only what lies at them does.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.tensorrt.api import Engine
from edge_runtime.backends.tensorrt.cuda import Cuda
from edge_runtime.bundle.manifest import ModelSpec
from edge_runtime.errors import BackendError
from edge_runtime.kv_cache.eviction import CacheSlots
from edge_runtime.kv_cache.placement import Slots
from edge_runtime.kv_cache.rope import from_pairs, inverse_frequencies, to_pairs
from edge_runtime.kv_cache.window import EvictionPlan

_CAPTURED_LENGTHS = 3
"""CUDA graphs kept: a timestep's chunk has two or three lengths, and a decoded token has one."""


class TensorRTCache:
    """See :class:`edge_runtime.backends.base.DecoderCache`."""

    most_rows = 1
    parts = (slice(None),)  # of evictions: few large transfers, not one for each layer

    def __init__(
        self, engine: Engine, cuda: Cuda, model: ModelSpec, in_place: bool, longest: int, graphs: bool
    ) -> None:
        self.capacity = model.context_rows
        self._engine, self._cuda = engine, cuda
        self._in_place, self._longest = in_place, longest
        positions = model.rotary_positions or model.context_rows
        self._slots = CacheSlots(
            self, self.capacity, positions, inverse_frequencies(model.head_dim, model.rope_theta)
        )
        self._dtype = np.dtype(engine.tensors["past_k.0"].dtype)
        self._slot_bytes = model.head_dim * self._dtype.itemsize
        self._blocks = 2 * model.num_layers * model.num_kv_heads  # of C slots each
        self._shape = (model.num_layers, 2, model.num_kv_heads, self.capacity, model.head_dim)
        kv_bytes = self._blocks * self.capacity * self._slot_bytes
        cuda.need(kv_bytes + engine.context_bytes, f"a stream's cache of {self.capacity} slots")

        self._stream = cuda.stream()
        indices = {name: engine.tensors[name].dtype for name in ("position_ids", "write_index")}
        self._embeddings = cuda.allocate_host((longest, model.hidden_size), np.float32)
        self._axes = 1 if model.visual_grid is None else 3
        self._positions = cuda.allocate_host((self._axes * longest,), indices["position_ids"])
        self._deepstack_layers = model.deepstack
        if model.deepstack:
            self._deepstack = cuda.allocate_host((model.deepstack * longest * model.hidden_size,), np.float32)
        self._write_index = cuda.allocate_host((1,), indices["write_index"])
        self._logits = cuda.allocate_host((model.vocab_size,), np.float32)
        self._host = [self._embeddings, self._positions, self._write_index, self._logits]
        self._kv = cuda.allocate(kv_bytes)
        self._new = 0 if in_place else cuda.allocate(self._blocks * longest * self._slot_bytes)
        self._addresses = {
            "inputs_embeds": cuda.allocate(self._embeddings.nbytes),
            "position_ids": cuda.allocate(self._positions.nbytes),
            "write_index": cuda.allocate(self._write_index.nbytes),
            "logits": cuda.allocate(self._logits.nbytes),
        }
        if model.deepstack:
            self._host.append(self._deepstack)
            self._addresses["deepstack"] = cuda.allocate(self._deepstack.nbytes)
        self._own = [*self._addresses.values(), self._kv, *([self._new] if self._new else [])]
        part = kv_bytes // (2 * model.num_layers)
        for index in range(2 * model.num_layers):
            name = f"{'kv'[index % 2]}.{index // 2}"
            self._addresses[f"past_{name}"] = self._kv + index * part
            if in_place:
                self._addresses[f"present_{name}"] = self._kv + index * part
        if not in_place:
            self._addresses["new_kv"] = self._new

        self._context = self._new_context()
        self._replays = graphs and not engine.captures_itself
        self._times: Counter[int] = Counter()
        self._captured: dict[int, tuple[int, Any]] = {}

    def step(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        length = len(embeddings)
        if not 0 < length <= self.capacity - start:
            raise ValueError(f"step of {length} slots at {start} in a cache of {self.capacity}")
        if positions is None:
            positions = np.arange(start, start + length)[None]
        positions = positions + self._slots.begin(start)
        for offset in range(0, length, self._longest):
            part = slice(offset, offset + self._longest)
            self._run(
                embeddings[part],
                start + offset,
                positions[:, part],
                None if deepstack is None else deepstack[:, part],
            )
        self._cuda.copy_out(self._logits, self._addresses["logits"], self._stream)
        self._cuda.synchronize(self._stream)
        return self._logits

    def verify(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        if len(embeddings) > self.most_rows:
            raise ValueError(f"logits of {len(embeddings)} positions; at most {self.most_rows}")
        return self.step(embeddings, start, positions, deepstack)[None]

    def _run(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64],
        deepstack: NDArray[np.float32] | None,
    ) -> None:
        length = len(embeddings)
        self._cuda.synchronize(self._stream)  # the host buffers below may still be read
        self._embeddings[:length] = embeddings
        self._positions[: positions.size] = positions.ravel()
        self._write_index[0] = start
        inputs = {
            "inputs_embeds": self._embeddings[:length],
            "position_ids": self._positions[: positions.size],
            "write_index": self._write_index,
        }
        if deepstack is not None:
            inputs["deepstack"] = self._deepstack[: deepstack.size]
            inputs["deepstack"][:] = deepstack.ravel()
        for name, array in inputs.items():
            self._cuda.copy_in(self._addresses[name], array, self._stream)
        graph = self._graph(length)
        if graph is not None:
            self._cuda.launch(graph, self._stream)
        else:
            self._execute(self._context, length)
        if not self._in_place:
            self._cuda.copy_strided(
                self._kv + start * self._slot_bytes,
                self.capacity * self._slot_bytes,
                self._new,
                length * self._slot_bytes,
                length * self._slot_bytes,
                self._blocks,
                self._stream,
            )

    def _execute(self, context: Any, length: int) -> None:
        width = self._embeddings.shape[1]
        shapes: dict[str, tuple[int, ...]] = {
            "inputs_embeds": (1, length, width),
            "position_ids": (self._axes, 1, length),
        }
        if self._deepstack_layers:
            shapes["deepstack"] = (self._deepstack_layers, 1, length, width)
        if not all(context.set_input_shape(name, shape) for name, shape in shapes.items()):
            raise BackendError(f"decoder graph: TensorRT refuses a chunk of {length} positions")
        if not context.execute_async_v3(self._stream):
            raise self._engine.api.failed("decoder graph: it failed to run")

    def _graph(self, length: int) -> int | None:
        """The CUDA graph of chunks of this length, made when a length comes for the second time.

        Each has an execution context of its own: another length must not change what it refers to.
        """
        if length in self._captured:
            return self._captured[length][0]
        self._times[length] += 1
        if not self._replays or self._times[length] < 2 or len(self._captured) == _CAPTURED_LENGTHS:
            return None
        try:
            context = self._new_context()
            self._execute(context, length)  # TensorRT wants one ordinary run before; it writes the same slots
            self._cuda.synchronize(self._stream)
            graph = self._cuda.capture(self._stream, lambda: self._execute(context, length))
        except BackendError:  # too little memory for it, or kernels that cannot be captured: run without
            self._replays = False
            return None
        self._captured[length] = graph, context
        return graph

    def _new_context(self) -> Any:
        context = self._engine.context()
        for name, address in self._addresses.items():
            if not context.set_tensor_address(name, address):
                raise self._engine.api.failed(f"decoder graph: no address could be set for {name}")
        return context

    def evict(self, plan: EvictionPlan) -> None:
        """Slots are copied on the device; only keys that are rotated come to the host and go back."""
        self._slots.evict(plan)
        self._cuda.synchronize(self._stream)

    def read_slots(self, slots: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return self._slots.read(slots)

    # The cache is its own edge_runtime.kv_cache.eviction.KVStore.

    def copy_slots(self, sources: Slots, targets: Slots) -> None:
        pitch = self.capacity * self._slot_bytes
        for run in _runs(sources, targets):
            source, target = (
                self._kv + int(slots[run.start]) * self._slot_bytes for slots in (sources, targets)
            )
            width = (run.stop - run.start) * self._slot_bytes
            self._cuda.copy_strided(target, pitch, source, pitch, width, self._blocks, self._stream)

    def read_pairs(self, layers: slice, slots: Slots) -> NDArray[np.complex64]:
        return to_pairs(self._read(layers, slots, 0))

    def write_pairs(self, layers: slice, slots: Slots, pairs: NDArray[np.complex64]) -> None:
        keys = from_pairs(pairs, out=np.empty((*pairs.shape[:-1], self._shape[-1]), self._dtype))
        self._transfer(keys, layers, slots, 0, to_device=True)

    def read_values(self, slots: Slots) -> NDArray[np.float32]:
        return self._read(slice(None), slots, 1)

    def _read(self, layers: slice, slots: Slots, kind: int) -> NDArray[np.float32]:
        """Keys (``kind`` 0) or values (1), [l, Hkv, n, Dh]."""
        count = len(range(*layers.indices(self._shape[0])))
        host = np.empty((count, self._shape[2], len(slots), self._shape[-1]), self._dtype)
        self._transfer(host, layers, slots, kind, to_device=False)
        return host.astype(np.float32)

    def _transfer(
        self, host: NDArray[Any], layers: slice, slots: Slots, kind: int, *, to_device: bool
    ) -> None:
        """``host`` [l, Hkv, n, Dh] from or to the keys or values of ``slots``; waits for the copies."""
        heads = self._shape[2]
        pitch, host_pitch = self.capacity * self._slot_bytes, len(slots) * self._slot_bytes
        for index, layer in enumerate(range(*layers.indices(self._shape[0]))):
            there = self._kv + (2 * layer + kind) * heads * pitch
            here = host.ctypes.data + index * heads * host_pitch
            for run in _runs(slots):
                on_device = there + int(slots[run.start]) * self._slot_bytes, pitch
                in_memory = here + run.start * self._slot_bytes, host_pitch
                width = (run.stop - run.start) * self._slot_bytes
                if to_device:
                    self._cuda.copy_strided(*on_device, *in_memory, width, heads, self._stream)
                else:
                    self._cuda.copy_strided(*in_memory, *on_device, width, heads, self._stream)
        self._cuda.synchronize(self._stream)

    def close(self) -> None:
        self._cuda.synchronize(self._stream)
        for graph, _ in self._captured.values():
            self._cuda.free_graph(graph)
        self._captured.clear()
        self._context = None
        for pointer in self._own:
            self._cuda.free(pointer)
        for array in self._host:
            self._cuda.free_host(array)
        self._own, self._host = [], []
        self._cuda.close_stream(self._stream)


def _runs(*slots: Slots) -> list[slice]:
    """Where neighbours in every one of ``slots`` are neighbours in memory."""
    breaks = np.any([np.diff(slot) != 1 for slot in slots], axis=0)
    bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(slots[0])]
    return [slice(a, b) for a, b in pairwise(bounds) if a < b]
