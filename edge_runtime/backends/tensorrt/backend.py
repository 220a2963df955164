"""TensorRT and TensorRT-RTX: engines built once on the device, and kept there for the next start."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.base import DecoderCache, check_names, initial_features
from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.backends.tensorrt.api import BuildRequest, Engine, TensorRT
from edge_runtime.backends.tensorrt.cache import TensorRTCache
from edge_runtime.backends.tensorrt.cuda import Cuda
from edge_runtime.backends.tensorrt.engine_cache import SCHEMA, EngineCache
from edge_runtime.bundle.manifest import Bundle, GraphSpec, ModelSpec
from edge_runtime.errors import BackendError

LONGEST_CHUNK = 256
"""Positions in one call of the engine: longer chunks (a long system prompt) are split."""
_USUAL_SHARE = 8
"""Positions of a silent timestep beside its visual tokens: label, markers, the previous decision."""


class TensorRTBackend:
    """``module``: tensorrt or tensorrt_rtx."""

    def __init__(
        self,
        module: Any,
        cuda: Cuda,
        *,
        cache: EngineCache | None = None,
        graphs: bool = True,
    ) -> None:
        self._api = TensorRT(module)
        self._cuda = cuda
        self._cache = cache if cache is not None else EngineCache()
        self._graphs = graphs
        device = cuda.device
        self.description = f"{self._api.name} {self._api.version}, {device.name} (SM{device.sm})"

    def load_vision(self, bundle: Bundle) -> TensorRTVision:
        engine = self._engine(bundle, "vision", bundle.vision, (1, 1, 1))
        return TensorRTVision(engine, self._cuda, bundle.vision)

    def load_decoder(self, bundle: Bundle) -> TensorRTDecoder:
        graph = bundle.decoder_for(self._api.lowerings)
        if graph is None:
            raise BackendError(
                f"{bundle.path(bundle.decoder.file)}: written for "
                f"{bundle.decoder.lowering or 'another engine'}, and {self._api.name} {self._api.version} "
                f"needs {' or '.join(self._api.lowerings)}; "
                "export the bundle with --target tensorrt"
            )
        lengths = chunk_lengths(bundle)
        engine = self._engine(bundle, "decoder", graph, lengths)
        return TensorRTDecoder(engine, self._cuda, bundle.model, graph, lengths[2], self._graphs)

    def _engine(self, bundle: Bundle, role: str, graph: GraphSpec, lengths: tuple[int, int, int]) -> Engine:
        device = self._cuda.device
        key = engine_key(self._api, bundle, graph, lengths) | {
            "cuda_major": device.cuda_major,
            "gpu": device.name,
            "sm": device.sm,
        }
        request = BuildRequest(bundle.path(graph.file), bundle.precision, lengths)
        built = self._cache.get(
            engine_slot(self._api, bundle, role), key, lambda timing: self._api.build(request, timing)
        )
        self._cuda.need(len(built.plan), f"the {role} engine of bundle {bundle.name}")
        return self._api.load(built.plan)


def chunk_lengths(bundle: Bundle) -> tuple[int, int, int]:
    """Least, usual and largest number of positions in one call of the decoder."""
    largest = min(LONGEST_CHUNK, bundle.model.context_rows)
    return 1, min(bundle.stream_format.frame_tokens + _USUAL_SHARE, largest), largest


def engine_slot(api: TensorRT, bundle: Bundle, role: str) -> str:
    """The engine's place in the cache; a newer build of the same thing replaces the older one."""
    return f"{bundle.name}-{role}-{api.name}"


def engine_key(
    api: TensorRT, bundle: Bundle, graph: GraphSpec, lengths: tuple[int, int, int]
) -> dict[str, Any]:
    """What an engine depends on beside the device: library, graph and weights, profile, flags, our schema."""
    weights = [
        f"{name}:{spec.sha256}" for name, spec in sorted(bundle.files.items()) if name.endswith(".weights")
    ]
    return {
        "schema": SCHEMA,
        "engine": api.name,
        "version": api.version,
        "graph": bundle.files[graph.file].sha256,
        "weights": weights,
        "lengths": list(lengths),
        "precision": bundle.precision,
        "strongly_typed": api.strongly_typed,
    }


class TensorRTVision:
    """See :class:`edge_runtime.backends.base.VisionGraph`."""

    def __init__(self, engine: Engine, cuda: Cuda, graph: GraphSpec) -> None:
        check_names(f"{graph.file}: its tensors", (*graph.inputs, *graph.outputs), engine.tensors)
        self._cuda, self._engine = cuda, engine
        self._initial = initial_features(graph)
        self._no_zones = initial_features(graph, "zones")
        self._context = engine.context()
        self._stream = cuda.stream()
        self._lock = threading.Lock()
        self._host = {
            name: cuda.allocate_host(tensor.shape, tensor.dtype) for name, tensor in engine.tensors.items()
        }
        self._addresses = {name: cuda.allocate(array.nbytes) for name, array in self._host.items()}
        for name, address in self._addresses.items():
            self._context.set_tensor_address(name, address)

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
        with self._lock:
            for name, array in inputs.items():
                self._host[name][:] = array
                self._cuda.copy_in(self._addresses[name], self._host[name], self._stream)
            if not self._context.execute_async_v3(self._stream):
                raise self._engine.api.failed("vision graph: it failed to run")
            outputs = [name for name in ("tokens", "trace") if name in self._host]
            for name in outputs:
                self._cuda.copy_out(self._host[name], self._addresses[name], self._stream)
            self._cuda.synchronize(self._stream)
            tokens, *features = (self._host[name].copy() for name in outputs)
        return tokens, features[0] if features else None


class TensorRTDecoder:
    """See :class:`edge_runtime.backends.base.DecoderGraph`."""

    batcher: StepBatcher | None = None

    def __init__(
        self, engine: Engine, cuda: Cuda, model: ModelSpec, graph: GraphSpec, longest: int, graphs: bool
    ) -> None:
        check_names(f"{graph.file}: its tensors", (*graph.inputs, *graph.outputs), engine.tensors)
        self._arguments = (engine, cuda, model, graph.lowering == "native-kv", longest, graphs)

    def open_cache(self) -> DecoderCache:
        return TensorRTCache(*self._arguments)
