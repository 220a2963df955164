"""Modules with the attributes that TensorRT 8.6, 10.3, 10.15, 11 and TensorRT-RTX have, ``None`` answers too.

Their engines run the ONNX file in ONNX Runtime over the addresses they are given, so that the backend above
them computes something that can be compared. What they reproduce of a version is which names exist and what
is answered to names and calls that do not.
"""

from __future__ import annotations

import ctypes
import enum
import json
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime

_KINDS = {1: "FLOAT", 10: "HALF", 6: "INT32", 7: "INT64"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64}


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, INT64 = range(6)

    def __str__(self):
        return f"DataType.{self.name}"


def _flags(name, *members):
    return enum.IntEnum(name, {member: index for index, member in enumerate(members)})


def _tensors(model, narrow):
    """``narrow``: 64-bit integers become 32-bit ones, as in TensorRT 8."""
    for is_input, values in ((True, model.graph.input), (False, model.graph.output)):
        for value in values:
            kind = _KINDS[value.type.tensor_type.elem_type]
            if narrow and kind == "INT64":
                kind = "INT32"
            dims = value.type.tensor_type.shape.dim
            shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
            yield SimpleNamespace(name=value.name, is_input=is_input, shape=shape, dtype=DataType[kind])


class _Network:
    def __init__(self, flags):
        self.flags = flags
        self.num_layers = 0

    def read(self, model, narrow):
        self.model = model
        tensors = list(_tensors(model, narrow))
        self.inputs = [tensor for tensor in tensors if tensor.is_input]
        self.outputs = [tensor for tensor in tensors if not tensor.is_input]
        self.num_inputs, self.num_outputs = len(self.inputs), len(self.outputs)

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        return self.outputs[index]


class _Cache:
    def __init__(self, data):
        self.data = data

    def serialize(self):
        return self.data + b"."


def make(name: str, version: str, *, cuda=None) -> ModuleType:
    """``name``: tensorrt or tensorrt_rtx. ``cuda``: the stand-in its engines run on."""
    numbers = tuple(int(part) for part in version.split(".")[:2])
    rtx = name == "tensorrt_rtx"
    typed = rtx or numbers >= (10, 0)
    in_place = rtx or numbers >= (10, 15)
    narrow = not rtx and numbers < (10, 0)
    module = ModuleType(name)
    module.__version__ = version
    module.builds = []  # what was asked of the builder, for tests to read
    module.float32 = DataType.FLOAT
    creation = [] if rtx or numbers >= (11, 0) else ["EXPLICIT_BATCH"]
    module.NetworkDefinitionCreationFlag = _flags("NetworkDefinitionCreationFlag", *creation)
    if typed:
        extra = {"STRONGLY_TYPED": 1}
        module.NetworkDefinitionCreationFlag = enum.IntEnum(
            "NetworkDefinitionCreationFlag", {**{flag: 0 for flag in creation}, **extra}
        )
    half = [] if rtx or numbers >= (11, 0) else ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]
    module.BuilderFlag = _flags("BuilderFlag", "TF32", *half)
    module.TensorIOMode = _flags("TensorIOMode", "NONE", "INPUT", "OUTPUT")
    module.LayerType = _flags("LayerType", "REDUCE", "UNARY", "ELEMENTWISE")
    if in_place:
        module.IKVCacheUpdateLayer = type("IKVCacheUpdateLayer", (), {})
    if rtx:
        module.ComputeCapability = _flags("ComputeCapability", "NONE", "CURRENT", "SM86", "SM89", "SM120")
        module.CudaGraphStrategy = _flags("CudaGraphStrategy", "DISABLED", "WHOLE_GRAPH_CAPTURE")

    class ILogger:
        def __init__(self):
            pass

    class Config:
        def __init__(self):
            self.flags, self.profiles, self.timing = [], [], None
            if rtx:
                self.num_compute_capabilities = 0
                self.capabilities = {}

        def set_flag(self, flag):
            self.flags.append(flag.name)

        def add_optimization_profile(self, profile):
            self.profiles.append(profile.shapes)

        def create_timing_cache(self, data):
            return None if data.startswith(b"other") else _Cache(data or b"timing")

        def set_timing_cache(self, cache, ignore_mismatch):
            self.timing = cache

        if rtx:

            def set_compute_capability(self, capability, index):
                self.capabilities[index] = capability.name
                return True

    class Builder:
        def __init__(self, logger):
            if module.broken == "builder":
                logger.log(1, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self.logger = logger

        def create_network(self, flags=0):
            known = sum(1 << int(flag) for flag in module.NetworkDefinitionCreationFlag)
            if flags & ~known or module.broken == "network":
                self.logger.log(1, f"unknown flags {flags:#x}")
                return None
            if narrow and not flags & 1:
                self.logger.log(1, "implicit batch")
            return _Network(flags)

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            shapes = {}
            return SimpleNamespace(
                shapes=shapes, set_shape=lambda name, *sizes: shapes.__setitem__(name, sizes)
            )

        def build_serialized_network(self, network, config):
            if module.broken == "memory":
                self.logger.log(1, "Requested amount of GPU memory (123 bytes) could not be allocated")
            if module.broken in ("memory", "build"):
                self.logger.log(2, "a warning after the error")
                return None
            module.builds.append(SimpleNamespace(flags=network.flags, config=config))
            return memoryview(network.model.SerializeToString())

    class OnnxParser:
        def __init__(self, network, logger):
            self.network, self.num_errors = network, 0

        def parse_from_file(self, path):
            try:
                model = onnx.load(path)
            except Exception:
                self.num_errors = 1
                return False
            newest = 24 if in_place else 17
            if model.opset_import[0].version > newest:
                self.num_errors = 1
                return False
            self.network.read(model, narrow)
            return True

        def get_error(self, index):
            answers = {"desc": lambda: "Unsupported operator", "node": lambda: 3}
            if numbers >= (10, 0) or rtx:
                answers["node_name"] = lambda: "node_attention"
            return SimpleNamespace(**answers)

    class Context:
        def __init__(self, engine):
            self.engine, self.addresses, self.shapes = engine, {}, {}

        def set_tensor_address(self, name, address):
            known = name in {tensor.name for tensor in self.engine.tensors}
            self.addresses[name] = address
            return known

        def set_input_shape(self, name, shape):
            self.shapes[name] = tuple(shape)
            return True

        def execute_async_v3(self, stream):
            shapes = {
                tensor.name: self.shapes.get(tensor.name, tensor.shape) for tensor in self.engine.tensors
            }
            cuda.do(lambda: self.engine.run(self.addresses, shapes))
            return True

    class Engine:
        device_memory_size = 1 << 20

        def __init__(self, plan):
            model = onnx.load_from_string(plan)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(
                bytes(plan), options, providers=["CPUExecutionProvider"]
            )
            self.tensors = list(_tensors(model, narrow))
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index):
            return self.tensors[index].name

        def _find(self, name):
            return next(tensor for tensor in self.tensors if tensor.name == name)

        def get_tensor_mode(self, name):
            mode = module.TensorIOMode
            return mode.INPUT if self._find(name).is_input else mode.OUTPUT

        def get_tensor_shape(self, name):
            return self._find(name).shape

        def get_tensor_dtype(self, name):
            return self._find(name).dtype

        def create_runtime_config(self):
            return SimpleNamespace(cuda_graph_strategy=None)

        def create_execution_context(self, config=None):
            return None if module.broken == "context" else Context(self)

        def run(self, addresses, shapes):
            feeds = {}
            for tensor in self.tensors:
                if tensor.is_input:
                    array = _view(addresses[tensor.name], shapes[tensor.name], tensor.dtype)
                    feeds[tensor.name] = array.astype(np.int64) if array.dtype == np.int32 else array.copy()
            names = [tensor.name for tensor in self.tensors if not tensor.is_input]
            for name, result in zip(names, self.session.run(names, feeds), strict=True):
                _view(addresses[name], result.shape, self._find(name).dtype)[...] = result

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            if module.broken == "load":
                self.logger.log(1, "The engine plan file is not compatible with this version of TensorRT")
                return None
            return Engine(plan)

    module.broken = ""
    for kind in (ILogger, Builder, OnnxParser, Runtime):
        setattr(module, kind.__name__, kind)
    return module


def _view(address, shape, dtype):
    kind = _NUMPY[dtype.name]
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_byte * size).from_address(address), kind).reshape(shape)


def describe(module) -> str:
    """What was asked of its builder, as JSON: for messages of failing tests."""
    return json.dumps([build.config.flags for build in module.builds])
