"""The decoder's cache on ONNX Runtime: what a step binds, and what an eviction does to it.

Past and present are bound once, to the same memory; a step rebinds only what changes with the chunk's length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.backends.batcher import Chunk, StepBatcher
from edge_runtime.bundle.manifest import ModelSpec
from edge_runtime.errors import BackendError, first_line
from edge_runtime.kv_cache.eviction import CacheSlots
from edge_runtime.kv_cache.host_store import HostStore
from edge_runtime.kv_cache.rope import inverse_frequencies
from edge_runtime.kv_cache.window import EvictionPlan

MOST_ROWS = 16
"""Most positions whose logits one call gives, for graphs that let choose."""
_LOGIT_ROWS = "logit_rows"
"""Optional input of those: positions in the chunk. Without it they give the logits of the last one."""


class OrtCache:
    """What both caches share: the step. See :class:`edge_runtime.backends.base.DecoderCache`."""

    batcher: StepBatcher | None = None
    """Carries steps out with those of other caches; None: each alone."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        model: ModelSpec,
        dtype: Any,
        scales: NDArray[np.float32] | None = None,
    ) -> None:
        """``scales`` [L, 2, Hkv, 1, Dh]: with ``dtype`` int8."""
        self.capacity = model.context_rows
        self._session = session
        self._binding = session.io_binding()
        # Slots are written before they are read; zeros all the same, so that no stray NaN can meet a product
        # with 0.
        shape = (model.num_layers, 2, model.num_kv_heads, self.capacity, model.head_dim)
        self._cache: Any = np.zeros(shape, dtype)  # keys and values of each layer in turn
        self._scales = scales
        self._store = HostStore(self._cache, scales)
        positions = self._positions_of(model)
        self._slots = CacheSlots(
            self._store, self.capacity, positions, inverse_frequencies(model.head_dim, model.rope_theta)
        )
        self._positions = np.arange(positions, dtype=np.int64)
        self._write_index = np.zeros(1, dtype=np.int64)
        chooses = _LOGIT_ROWS in {one.name for one in session.get_overridable_initializers()}
        self.most_rows = MOST_ROWS if chooses else 1
        self._logit_rows = np.arange(-self.most_rows, 0)
        # Virtual memory until it is written.
        self._logits: NDArray[np.float32] = np.empty((self.most_rows, model.vocab_size), dtype=np.float32)
        self._bind_output("logits", self._logits[:1])
        self._bind_caches(model.num_layers)

    def step(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        chunk = Chunk(embeddings, start, positions, deepstack)
        return self.step_alone(chunk) if self.batcher is None else self.batcher.step(self, chunk)

    def step_alone(self, chunk: Chunk) -> NDArray[np.float32]:
        """:meth:`step` in a call of its own."""
        logits: NDArray[np.float32] = self._run(chunk, 1)[0]
        return logits

    def verify(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        return self._run(Chunk(embeddings, start, positions, deepstack), len(embeddings))

    def _run(self, chunk: Chunk, rows: int) -> NDArray[np.float32]:
        """Logits of the last ``rows`` positions."""
        embeddings, start, deepstack = chunk.embeddings, chunk.start, chunk.deepstack
        length, width = embeddings.shape
        if rows > self.most_rows:
            raise ValueError(f"logits of {rows} positions; at most {self.most_rows}")
        positions = self.begin(chunk)
        self._write_index[0] = start
        self._before(length)
        # All anew in every step: their length varies, and on a GPU binding is what copies them there.
        self._bind_input("inputs_embeds", embeddings, (1, length, width))
        self._bind_input("position_ids", positions, (len(positions), 1, length))
        if deepstack is not None:
            self._bind_input("deepstack", deepstack, (len(deepstack), 1, length, width))
        self._bind_input("write_index", self._write_index, (1,))
        logits = self._logits[:rows]
        if self.most_rows > 1:
            self._bind_input(_LOGIT_ROWS, self._logit_rows[-rows:], (rows,))
            self._bind_output("logits", logits)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise BackendError(f"decoder graph: onnxruntime failed ({first_line(error)})") from error
        self._after(start, length)
        return logits

    def begin(self, chunk: Chunk) -> NDArray[np.int64]:
        """The chunk is about to be written. Returns the positions [axes, S] of its slots."""
        length, start = len(chunk.embeddings), chunk.start
        if not 0 < length <= self.capacity - start:
            raise ValueError(f"step of {length} slots at {start} in a cache of {self.capacity}")
        base = self._slots.begin(start)
        if chunk.positions is None:
            return self._positions[base + start : base + start + length][None]
        return np.ascontiguousarray(chunk.positions + base)

    def evict(self, plan: EvictionPlan) -> None:
        self._slots.evict(plan)

    def read_slots(self, slots: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return self._slots.read(slots)

    def close(self) -> None:
        if self.batcher is not None:
            self.batcher.closed(self)
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._slots, self._store, self._cache

    def _positions_of(self, model: ModelSpec) -> int:
        """How many the graph can be given."""
        return model.rotary_positions or model.context_rows

    def _bind_caches(self, layers: int) -> None:
        raise NotImplementedError

    def _before(self, length: int) -> None:
        """Bind what else depends on the chunk's length."""

    def _after(self, start: int, length: int) -> None:
        """Do with the outputs what the graph leaves to do."""

    def _bind_input(self, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)

    def _bind_output(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


class OrtHostCache(OrtCache):
    """Keys and values in one numpy array [L, 2, Hkv, C, Dh], written in place by the graph."""

    def buffer(self, layer: int, which: int) -> NDArray[Any]:
        """A layer's keys (0) or values (1), [1, Hkv, C, Dh]."""
        buffer: NDArray[Any] = self._cache[layer, which][None]
        return buffer

    def keep(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of ``logits`` of a call for several caches, until this one's next step."""
        self._logits[0] = logits
        kept: NDArray[np.float32] = self._logits[0]
        return kept

    def _bind_caches(self, layers: int) -> None:
        for layer in range(layers):
            for letter, buffer in zip("kv", self._cache[layer][:, None], strict=True):
                self._bind_input(f"past_{letter}.{layer}", buffer, buffer.shape)
                if self._scales is not None:
                    scale = self._scales[layer, "kv".index(letter)][None]
                    self._bind_input(f"scale_{letter}.{layer}", scale, scale.shape)
                self._bind_present(f"present_{letter}.{layer}", buffer)

    def _bind_present(self, name: str, buffer: NDArray[Any]) -> None:
        self._bind_output(name, buffer)


class OrtAppendingCache(OrtHostCache):
    """The graph only reads the cache and gives the chunk's keys and values [2 L, Hkv, S, Dh]: they are copied
    to their slots afterwards.
    """

    _new: NDArray[Any]

    def _bind_present(self, name: str, buffer: NDArray[Any]) -> None:
        """The graph has no such output."""

    def _before(self, length: int) -> None:
        layers, two, heads, _, width = self._cache.shape
        self._new = np.empty((layers * two, heads, length, width), self._cache.dtype)
        self._bind_output("new_kv", self._new)

    def _after(self, start: int, length: int) -> None:
        self._cache.reshape(-1, *self._cache.shape[2:])[:, :, start : start + length] = self._new


class OrtDeviceCache(OrtCache):
    """Keys and values in the device's memory, and as many slots of the host's, to which an eviction fetches
    them and from which it writes them back: OrtValue has no copy of parts.
    """

    device = "cuda"
    _buffers: list[tuple[Any, Any]]

    def evict(self, plan: EvictionPlan) -> None:
        self._fetch()
        super().evict(plan)
        for layer, pair in zip(self._cache, self._buffers, strict=True):
            for host, value in zip(layer[:, None], pair, strict=True):
                value.update_inplace(host)

    def read_slots(self, slots: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        self._fetch()
        return super().read_slots(slots)

    def close(self) -> None:
        super().close()
        self._buffers = []

    def _fetch(self) -> None:
        for layer, pair in zip(self._cache, self._buffers, strict=True):
            for host, value in zip(layer[:, None], pair, strict=True):
                host[:] = value.numpy()

    def _positions_of(self, model: ModelSpec) -> int:
        """Slots and positions are kept alike after each eviction: whether GroupQueryAttention's kernels for
        CUDA would follow ``position_ids`` otherwise has not been tried.
        """
        return model.context_rows

    def _bind_caches(self, layers: int) -> None:
        self._buffers = []
        for layer in range(layers):
            pair = []
            for letter, host in zip("kv", self._cache[layer][:, None], strict=True):
                value = onnxruntime.OrtValue.ortvalue_from_numpy(host, self.device, 0)
                self._binding.bind_ortvalue_input(f"past_{letter}.{layer}", value)
                self._binding.bind_ortvalue_output(f"present_{letter}.{layer}", value)
                pair.append(value)
            self._buffers.append((pair[0], pair[1]))
