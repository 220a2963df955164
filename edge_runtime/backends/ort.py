"""ONNX Runtime: the CPU everywhere, CUDA for bundles with a float16 cache.

The decoder's cache is bound once, past and present to the same memory: GroupQueryAttention and TensorScatter
then write the chunk's slots in place and copy nothing. A step rebinds only what changes with the chunk's
length. TensorRT's oldest flavour gives the chunk's slots instead: they are copied afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.backends.base import DecoderCache, check_names, initial_features
from edge_runtime.backends.spinning import Spinning, session_entries, supported
from edge_runtime.bundle.manifest import CACHE_SCALES, Bundle, GraphSpec, ModelSpec
from edge_runtime.errors import BackendError, BundleError, first_line
from edge_runtime.kv_cache.eviction import CacheSlots
from edge_runtime.kv_cache.host_store import HostStore
from edge_runtime.kv_cache.rope import inverse_frequencies
from edge_runtime.kv_cache.window import EvictionPlan

LOWERINGS = ("ort-gqa", "native-kv", "legacy-kv")
"""Graphs this engine runs, the fastest first. On CUDA only the first has kernels that work in place."""
MOST_ROWS = 16
"""Most positions whose logits one call gives, for graphs that let choose."""
_LOGIT_ROWS = "logit_rows"
"""Optional input of those: positions in the chunk. Without it they give the logits of the last one."""
_DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "int8": np.int8}


def session_options(threads: int, spinning: Spinning = "run") -> onnxruntime.SessionOptions:
    """Options of every graph. Raises ConfigError for an unknown ``spinning``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: the rest is for developers of the engine
    for name, value in session_entries(supported(spinning, onnxruntime.__version__)).items():
        options.add_session_config_entry(name, value)
    return options


class OrtBackend:
    """``device``: ``cpu`` or ``cuda``. ``threads``: CPU threads per graph. ``spinning``: when they poll for
    work.
    """

    def __init__(self, device: str, threads: int, *, spinning: Spinning = "run") -> None:
        self.device = device
        self.threads = threads
        self.spinning = supported(spinning, onnxruntime.__version__)
        where = f"{threads} threads (spinning: {self.spinning})" if device == "cpu" else "device 0"
        self.description = f"onnxruntime {onnxruntime.__version__}, {device}, {where}"

    def load_vision(self, bundle: Bundle) -> OrtVision:
        return OrtVision(self._compile(bundle, bundle.vision), bundle.vision)

    def load_decoder(self, bundle: Bundle) -> OrtDecoder:
        able = LOWERINGS if self.device == "cpu" else LOWERINGS[:1]
        graph = bundle.decoder_for(able)
        if graph is None:
            raise BackendError(
                f"{bundle.path(bundle.decoder.file)}: written for "
                f"{bundle.decoder.lowering or 'another engine'}, and onnxruntime on {self.device} needs "
                f"{' or '.join(able)}; export the bundle with --target ort-{self.device}"
            )
        return OrtDecoder(self._compile(bundle, graph), bundle, graph, self.device)

    def _compile(self, bundle: Bundle, graph: GraphSpec) -> onnxruntime.InferenceSession:
        path = bundle.path(graph.file)
        options = session_options(self.threads, self.spinning)
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.device == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # the engine's exceptions share no base class
            raise BackendError(f"{path}: onnxruntime cannot load it ({first_line(error)})") from error
        if providers[0] not in session.get_providers():
            raise BackendError(
                "backend cuda: onnxruntime could not start its CUDA provider; check the driver and the CUDA "
                "libraries, or choose backend cpu"
            )
        check_names(f"{path}: its inputs", graph.inputs, (one.name for one in session.get_inputs()))
        check_names(f"{path}: its outputs", graph.outputs, (one.name for one in session.get_outputs()))
        return session


class OrtVision:
    """See :class:`edge_runtime.backends.base.VisionGraph`."""

    def __init__(self, session: onnxruntime.InferenceSession, graph: GraphSpec) -> None:
        self._session = session
        self._initial = initial_features(graph)
        self._no_zones = initial_features(graph, "zones")
        self._outputs = ["tokens"] if self._initial is None else ["tokens", "trace"]

    def run(
        self,
        pixels: NDArray[np.float32],
        previous: NDArray[np.float32] | None,
        zones: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        inputs = {"pixels": pixels}
        if self._initial is not None:
            inputs["previous"] = self._initial if previous is None else previous
        if self._no_zones is not None:
            inputs["zones"] = self._no_zones if zones is None else zones
        try:
            tokens, *features = self._session.run(self._outputs, inputs)
        except Exception as error:
            raise BackendError(f"vision graph: onnxruntime failed ({first_line(error)})") from error
        return tokens, features[0] if features else None


class OrtDecoder:
    """See :class:`edge_runtime.backends.base.DecoderGraph`."""

    def __init__(
        self, session: onnxruntime.InferenceSession, bundle: Bundle, graph: GraphSpec, device: str
    ) -> None:
        self._session = session
        self._model = bundle.model
        self._cache: type[_OrtCache] = OrtHostCache if device == "cpu" else OrtDeviceCache
        if graph.lowering == "legacy-kv":
            self._cache = OrtAppendingCache
        name = graph.input("past_k.0").dtype
        if name not in _DTYPES:
            raise BundleError(
                f"{bundle.path('bundle.json')}: past_k.0 has dtype {name}; known: {', '.join(_DTYPES)}"
            )
        self._dtype = _DTYPES[name]
        self._scales = _load_scales(bundle) if name == "int8" else None

    def open_cache(self) -> DecoderCache:
        return self._cache(self._session, self._model, self._dtype, self._scales)


class _OrtCache:
    """What both caches share: the step. See :class:`edge_runtime.backends.base.DecoderCache`."""

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
        logits: NDArray[np.float32] = self._run(embeddings, start, positions, deepstack, 1)[0]
        return logits

    def verify(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        return self._run(embeddings, start, positions, deepstack, len(embeddings))

    def _run(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None,
        deepstack: NDArray[np.float32] | None,
        rows: int,
    ) -> NDArray[np.float32]:
        """Logits of the last ``rows`` positions."""
        length, width = embeddings.shape
        if not 0 < length <= self.capacity - start:
            raise ValueError(f"step of {length} slots at {start} in a cache of {self.capacity}")
        if rows > self.most_rows:
            raise ValueError(f"logits of {rows} positions; at most {self.most_rows}")
        base = self._slots.begin(start)
        self._write_index[0] = start
        self._before(length)
        # All anew in every step: their length varies, and on a GPU binding is what copies them there.
        self._bind_input("inputs_embeds", embeddings, (1, length, width))
        if positions is None:
            positions = self._positions[base + start :][None]
        else:
            positions = np.ascontiguousarray(positions + base)
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

    def evict(self, plan: EvictionPlan) -> None:
        self._slots.evict(plan)

    def read_slots(self, slots: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return self._slots.read(slots)

    def close(self) -> None:
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


class OrtHostCache(_OrtCache):
    """Keys and values in one numpy array [L, 2, Hkv, C, Dh], written in place by the graph."""

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


class OrtDeviceCache(_OrtCache):
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


def _load_scales(bundle: Bundle) -> NDArray[np.float32]:
    """Raises BundleError when they are not there or of other sizes than the cache."""
    model, path = bundle.model, bundle.path(CACHE_SCALES)
    if CACHE_SCALES not in bundle.files:
        raise BundleError(f"{path}: missing, and the cache is in int8; export the bundle again")
    try:
        scales: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise BundleError(f"{path}: no array ({error}); export the bundle again") from error
    shape = (model.num_layers, 2, model.num_kv_heads, 1, model.head_dim)
    if scales.dtype != np.float32 or scales.shape != shape or not (scales > 0).all():
        raise BundleError(f"{path}: expected positive float32 {shape}; export the bundle again")
    return np.ascontiguousarray(scales)
