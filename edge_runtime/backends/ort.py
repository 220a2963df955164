"""ONNX Runtime: the CPU everywhere, CUDA for bundles with a float16 cache.

The decoder's cache is bound once, past and present to the same memory: GroupQueryAttention and TensorScatter
then write the chunk's slots in place and copy nothing. A step rebinds only what changes with the chunk's
length. TensorRT's oldest flavour gives the chunk's slots instead: they are copied afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.backends.base import DecoderCache, check_names, initial_features
from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.backends.ort_batch import OrtBatch
from edge_runtime.backends.ort_cache import OrtAppendingCache, OrtCache, OrtDeviceCache, OrtHostCache
from edge_runtime.backends.spinning import Spinning, session_entries, supported
from edge_runtime.bundle.manifest import CACHE_SCALES, Bundle, GraphSpec
from edge_runtime.bundle.memory_plan import check_memory
from edge_runtime.errors import BackendError, BundleError, first_line

LOWERINGS = ("ort-gqa", "native-kv", "legacy-kv")
"""Graphs this engine runs, the fastest first. On CUDA only the first has kernels that work in place."""
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
        decoder = OrtDecoder(self._compile(bundle, graph), bundle, graph, self.device)
        if bundle.batch is not None and self.device == "cpu" and graph.lowering == "ort-gqa":
            decoder.take_batches(bundle.batch.places, lambda: self._load_batch(bundle))
        return decoder

    def _load_batch(self, bundle: Bundle) -> onnxruntime.InferenceSession:
        """Of the batch graph, which has packed weights of its own. Raises BackendError."""
        assert bundle.batch is not None
        check_memory(bundle, sessions=0)
        return self._open(bundle.path(bundle.batch.file))

    def _compile(self, bundle: Bundle, graph: GraphSpec) -> onnxruntime.InferenceSession:
        path = bundle.path(graph.file)
        session = self._open(path)
        check_names(f"{path}: its inputs", graph.inputs, (one.name for one in session.get_inputs()))
        check_names(f"{path}: its outputs", graph.outputs, (one.name for one in session.get_outputs()))
        return session

    def _open(self, path: Path) -> onnxruntime.InferenceSession:
        """Raises BackendError."""
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
        self._cache: type[OrtCache] = OrtHostCache if device == "cpu" else OrtDeviceCache
        if graph.lowering == "legacy-kv":
            self._cache = OrtAppendingCache
        name = graph.input("past_k.0").dtype
        if name not in _DTYPES:
            raise BundleError(
                f"{bundle.path('bundle.json')}: past_k.0 has dtype {name}; known: {', '.join(_DTYPES)}"
            )
        self._dtype = _DTYPES[name]
        self._scales = _load_scales(bundle) if name == "int8" else None
        self.batcher: StepBatcher | None = None

    def take_batches(self, places: int, load: Callable[[], onnxruntime.InferenceSession]) -> None:
        """Let so many sessions share a call of the graph that ``load`` gives. Only on the CPU."""

        def batch() -> OrtBatch:
            return OrtBatch(load(), self._model, places, self._dtype, self._scales)

        self.batcher = StepBatcher(places, batch)

    def open_cache(self) -> DecoderCache:
        cache = self._cache(self._session, self._model, self._dtype, self._scales)
        if self.batcher is not None:
            cache.batcher = self.batcher
            self.batcher.opened(cache)
        return cache


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
