"""One face for TensorRT 8.6, 10, 11 and TensorRT-RTX: takes the imported module, hides what differs.

Nothing here looks at a version number: what a module can do is asked by name. ``create_network`` with a flag
it does not know, a parser or a builder that gives up, and an engine it will not read all answer ``None`` and
raise nothing, so every answer is checked and the reason is taken from the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import BackendError

_KEPT_MESSAGES = 40
_WORST = 2
"""Severities 0 to 2 are internal errors, errors and warnings; the rest is talk."""
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network or an engine; -1 in ``shape`` varies."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class BuildRequest:
    """What to build. ``lengths``: least, usual and largest value of every varying dimension.

    ``sms``: compute capabilities to build for on a machine without a GPU, empty for the GPU that is here.
    """

    onnx: Path
    precision: str
    lengths: tuple[int, int, int] = (1, 1, 1)
    sms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Built:
    """An engine, not loaded. ``tensors``: as the network says; without a GPU no engine can be asked."""

    plan: bytes
    tensors: tuple[Tensor, ...]
    timing: bytes = b""
    """The timing cache after the build; empty where there is none."""


@dataclass
class _Log:
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_MESSAGES))

    def reason(self) -> str:
        """The last error, else the last warning, in one line."""
        errors = [text for text in self.messages if not text.startswith("W")]
        text = (errors or list(self.messages) or ["- it gave no reason"])[-1]
        return " ".join(text[2:].split())[:300]


class TensorRT:
    """``module``: tensorrt or tensorrt_rtx, imported."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.name: str = module.__name__
        self.version: str = module.__version__
        self.is_rtx = self.name.endswith("rtx")
        self._log = _Log()
        self._logger = _make_logger(module, self._log)

    @property
    def lowerings(self) -> tuple[str, ...]:
        """Decoder graphs it takes, the preferred one first. A cache is updated in place from 10.15 on."""
        in_place = hasattr(self.module, "IKVCacheUpdateLayer")
        return ("native-kv", "legacy-kv") if in_place else ("legacy-kv",)

    @property
    def strongly_typed(self) -> bool:
        """Whether the graph's own types are what is computed in; else flags allow lower ones."""
        return hasattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") or not hasattr(
            self.module.BuilderFlag, "FP16"
        )

    def failed(self, what: str) -> BackendError:
        """An error with the reason the library logged."""
        return BackendError(f"{self.name} {self.version}: {what} ({self._log.reason()})")

    def build(self, request: BuildRequest, timing: bytes = b"") -> Built:
        """Build an engine from an ONNX file. ``timing``: an earlier build's timing cache.

        Raises BackendError with what the parser or the builder had to say.
        """
        self._log.messages.clear()
        builder = self._builder()
        flags = 0
        for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED"):
            flag = getattr(self.module.NetworkDefinitionCreationFlag, name, None)
            flags |= 0 if flag is None else 1 << int(flag)
        network = builder.create_network(flags)
        if network is None:
            raise self.failed(f"no network could be created with flags {flags:#x}")
        self._parse(network, request.onnx)
        config = builder.create_builder_config()
        if config is None:
            raise self.failed("no builder configuration could be created")
        cache = self._configure(config, network, request, timing)
        config.add_optimization_profile(self._profile(builder, network, request.lengths))
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            reason = self._log.reason()
            if "memory" in reason.lower():
                raise BackendError(
                    f"{request.onnx}: too little GPU memory to build the engine ({reason}); close other "
                    "programs, or build it on a larger machine with the same GPU"
                )
            raise self.failed(f"{request.onnx}: no engine could be built")
        return Built(
            bytes(plan), _network_tensors(network), b"" if cache is None else bytes(cache.serialize())
        )

    def _builder(self) -> Any:
        try:
            builder = self.module.Builder(self._logger)
        except Exception as error:  # the bindings turn a null pointer into a TypeError
            raise self.failed("it could not start; check the driver with nvidia-smi") from error
        if builder is None:
            raise self.failed("it could not start; check the driver with nvidia-smi")
        return builder

    def _parse(self, network: Any, onnx: Path) -> None:
        parser = self.module.OnnxParser(network, self._logger)
        if parser.parse_from_file(str(onnx)):
            return
        problems = []
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            node = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
            problems.append(f"{node}: {error.desc()}")
        reason = " ".join((problems or [self._log.reason()])[0].split())[:300]
        raise BackendError(
            f"{onnx}: {self.name} {self.version} cannot read it ({reason}); "
            "python -m export lint says what it may not hold"
        )

    def _configure(self, config: Any, network: Any, request: BuildRequest, timing: bytes) -> Any:
        """Flags, targets and the timing cache, which is returned (None where there is none)."""
        module = self.module
        if not self.strongly_typed and request.precision != "fp32":
            names = ["FP16", "OBEY_PRECISION_CONSTRAINTS", *(["INT8"] if request.precision == "int8" else [])]
            for name in names:
                config.set_flag(getattr(module.BuilderFlag, name))
            _pin_norms(module, network)
        if request.sms:
            if not hasattr(config, "num_compute_capabilities"):
                raise BackendError(
                    f"{self.name} {self.version} builds for the GPU of this machine only; "
                    "ahead of time needs tensorrt_rtx"
                )
            config.num_compute_capabilities = len(request.sms)
            for index, sm in enumerate(request.sms):
                capability = getattr(module.ComputeCapability, f"SM{sm}", None)
                if capability is None or not config.set_compute_capability(capability, index):
                    known = [name[2:] for name in dir(module.ComputeCapability) if name.startswith("SM")]
                    raise BackendError(
                        f"{self.name} {self.version} cannot build for SM{sm}, only for "
                        f"{', '.join(sorted(known))}; for others use classic tensorrt, on the device"
                    )
        if self.is_rtx or not hasattr(config, "create_timing_cache"):
            return None  # TensorRT-RTX times nothing: it compiles on the device
        cache = config.create_timing_cache(timing)
        if cache is None and timing:
            cache = config.create_timing_cache(b"")  # another version's: begin anew
        if cache is not None:
            config.set_timing_cache(cache, False)
        return cache

    def _profile(self, builder: Any, network: Any, lengths: tuple[int, int, int]) -> Any:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            shape = tuple(tensor.shape)
            if -1 in shape:
                least, usual, largest = (
                    tuple(length if size == -1 else size for size in shape) for length in lengths
                )
                profile.set_shape(tensor.name, least, usual, largest)
        return profile

    def load(self, plan: bytes) -> Engine:
        """Raises BackendError when the plan is another version's, another GPU's or damaged."""
        self._log.messages.clear()
        runtime = self.module.Runtime(self._logger)
        engine = None if runtime is None else runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self.failed("the engine could not be loaded")
        return Engine(self, runtime, engine)


class Engine:
    """A loaded engine; it may not outlive the runtime that read it, which is why it holds it."""

    def __init__(self, api: TensorRT, runtime: Any, engine: Any) -> None:
        self.api = api
        self._runtime = runtime
        self._engine = engine
        mode = api.module.TensorIOMode.INPUT
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.tensors: Mapping[str, Tensor] = {
            name: Tensor(
                name,
                engine.get_tensor_mode(name) == mode,
                tuple(engine.get_tensor_shape(name)),
                dtype_name(engine.get_tensor_dtype(name)),
            )
            for name in names
        }

    @property
    def context_bytes(self) -> int:
        """Device memory that each execution context takes."""
        size = getattr(self._engine, "device_memory_size_v2", None)
        return int(self._engine.device_memory_size if size is None else size)

    @property
    def captures_itself(self) -> bool:
        """TensorRT-RTX makes CUDA graphs by itself when told to."""
        return hasattr(self.api.module, "CudaGraphStrategy")

    def context(self) -> Any:
        """A new execution context. Raises BackendError, mostly for want of memory."""
        if self.captures_itself:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self.api.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise self.api.failed("no execution context could be created")
        return context


def dtype_name(dtype: Any) -> str:
    """numpy's name of a TensorRT data type."""
    name = str(dtype).rpartition(".")[2]
    return _DTYPES.get(name, name.lower())


def _network_tensors(network: Any) -> tuple[Tensor, ...]:
    inputs = [(network.get_input(index), True) for index in range(network.num_inputs)]
    outputs = [(network.get_output(index), False) for index in range(network.num_outputs)]
    return tuple(
        Tensor(tensor.name, is_input, tuple(tensor.shape), dtype_name(tensor.dtype))
        for tensor, is_input in [*inputs, *outputs]
    )


def _pin_norms(module: Any, network: Any) -> None:
    """Where flags allow fp16 anywhere, keep what the graph computes in fp32 there: the norms, whose squares
    leave the range of fp16."""
    kinds = [getattr(module.LayerType, name) for name in ("REDUCE", "UNARY", "ELEMENTWISE")]
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
        if layer.type in kinds and all(output.dtype == module.float32 for output in outputs):
            layer.precision = module.float32


def _make_logger(module: Any, log: _Log) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= _WORST:
                log.messages.append(f"{'W' if int(severity) == _WORST else 'E'} {message}")

    return Logger()
