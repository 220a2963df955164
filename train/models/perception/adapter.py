"""Another detector in NanoDet's place: any that gives a box and class scores for each cell of three grids.

YOLOX, YOLOv8 and their like do so when they are exported at 416 x 416 without suppression: 52 x 52 cells of
8 pixels, then 26 x 26 of 16 and 13 x 13 of 32, 3,549 in all. Their outputs become those of the converted
NanoDet, so everything behind the detector stays as it is. Nodes are added to the graph; nothing is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from train.models.perception.nanodet import BINS, CLASSES, SIZE, STRIDES

CELLS = tuple((SIZE // stride) ** 2 for stride in STRIDES)
_FLOOR = 1e-6
"""Share of a bin that a side does not lie in; its logarithm stays finite."""


@dataclass(frozen=True)
class DetectorLayout:
    """What a detector reads and gives.

    ``classes``: its own, in order; those that :data:`CLASSES` lacks are left out. ``boxes``: ``cxcywh`` or
    ``xyxy``, in pixels of the input. ``objectness``: a score stands between box and class scores, as in
    YOLOX. ``scale``: pixels are divided by it; ``bgr``: channels are turned.
    """

    classes: tuple[str, ...] = CLASSES
    boxes: str = "cxcywh"
    objectness: bool = False
    scale: float = 1.0
    bgr: bool = False


def adapt(model: onnx.ModelProto, layout: DetectorLayout) -> onnx.ModelProto:
    """The same detector with the inputs and outputs of the converted NanoDet.

    ``model``: one input [1, 3, 416, 416] and one output of [1, 3549, V] or [1, V, 3549], where V is 4 box
    values, the objectness if there is one, and a score for each class. Raises ValueError for any other.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, values = made.graph, 4 + layout.objectness + len(layout.classes)
    if len(graph.input) != 1 or _shape(graph.input[0]) != [1, 3, SIZE, SIZE]:
        found = [f"{one.name} {_shape(one)}" for one in graph.input]
        raise ValueError(
            f"the detector reads {', '.join(found)}; export it with one input [1, 3, {SIZE}, {SIZE}]"
        )
    if len(graph.output) != 1 or sorted(_shape(graph.output[0])[1:]) != sorted((sum(CELLS), values)):
        found = [f"{one.name} {_shape(one)}" for one in graph.output]
        raise ValueError(
            f"the detector gives {', '.join(found)}; expected one output [1, {sum(CELLS)}, {values}] or "
            f"[1, {values}, {sum(CELLS)}] for {len(layout.classes)} classes: export it without suppression"
        )
    if not set(layout.classes) & set(CLASSES):
        raise ValueError(
            "none of the detector's classes is one of CLASSES in train/models/perception/nanodet.py"
        )
    old_in, old_out = graph.input[0].name, graph.output[0].name
    turned = _shape(graph.output[0])[1] == values
    nodes = _Nodes()
    _read(nodes, old_in, layout)
    nodes.take(list(graph.node))
    rows = nodes.add("Transpose", [old_out], perm=[0, 2, 1]) if turned else old_out
    scores = _scores(nodes, rows, layout)
    sides = _sides(nodes, rows, layout)
    outputs = []
    for kind, source, width in (("scores", scores, len(CLASSES)), ("boxes", sides, 4 * BINS)):
        for number, stride in enumerate(STRIDES):
            start = sum(CELLS[:number])
            part = nodes.slice(source, start, start + CELLS[number], axis=1)
            name = f"{kind}_{stride}"
            nodes.add("Identity", [part], name)
            shape = (1, CELLS[number], width)
            outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.constants)
    graph.input.append(helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, (1, 3, SIZE, SIZE)))
    graph.output.extend(outputs)
    onnx.checker.check_model(made)
    return made


def _read(nodes: _Nodes, name: str, layout: DetectorLayout) -> None:
    """RGB pixels in 0..255 to what the detector reads."""
    seen = "pixels"
    if layout.bgr:
        seen = nodes.add("Gather", [seen, nodes.constant(np.array([2, 1, 0], np.int64))], axis=1)
    nodes.add("Div", [seen, nodes.constant(np.array(layout.scale, np.float32))], name)


def _scores(nodes: _Nodes, rows: str, layout: DetectorLayout) -> str:
    """[1, 3549, 80]: the classes in our order, zero for those that the detector lacks."""
    first = 4 + layout.objectness
    own = nodes.slice(rows, first, first + len(layout.classes), axis=2)
    if layout.objectness:
        own = nodes.add("Mul", [own, nodes.slice(rows, 4, 5, axis=2)])
    # Classes as a product with zeros and ones, which every engine takes.
    order = np.zeros((len(layout.classes), len(CLASSES)), np.float32)
    for index, name in enumerate(layout.classes):
        if name in CLASSES:
            order[index, CLASSES.index(name)] = 1.0
    return nodes.add("MatMul", [own, nodes.constant(order)])


def _sides(nodes: _Nodes, rows: str, layout: DetectorLayout) -> str:
    """[1, 3549, 44]: how far each side lies from the centre of its cell, as logits over bins of one stride.

    A side lies between two bins, whose shares add up to one; farther than ten strides is ten.
    """
    x, y, stride = _grid()
    box = nodes.slice(rows, 0, 4, axis=2)
    if layout.boxes == "cxcywh":
        corner = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)
        box = nodes.add("MatMul", [box, nodes.constant(corner)])
    elif layout.boxes != "xyxy":
        raise ValueError(f"boxes: expected cxcywh or xyxy, got {layout.boxes!r}")
    centre = np.stack([x, y, x, y], axis=-1)[None].astype(np.float32)
    from_centre = nodes.add("Sub", [box, nodes.constant(centre)])
    sign = (np.array([-1, -1, 1, 1]) / stride[:, None])[None].astype(np.float32)
    distance = nodes.add("Mul", [from_centre, nodes.constant(sign)])
    low, high = (nodes.constant(np.array(value, np.float32)) for value in (0.0, BINS - 1.0))
    distance = nodes.add("Min", [nodes.add("Max", [distance, low]), high])
    shape = nodes.constant(np.array([1, sum(CELLS), 4, 1], np.int64))
    bins = np.arange(BINS, dtype=np.float32).reshape(1, 1, 1, BINS)
    off = nodes.add(
        "Abs", [nodes.add("Sub", [nodes.add("Reshape", [distance, shape]), nodes.constant(bins)])]
    )
    share = nodes.add("Sub", [nodes.constant(np.array(1.0, np.float32)), off])
    share = nodes.add("Max", [share, nodes.constant(np.array(_FLOOR, np.float32))])
    flat = nodes.constant(np.array([1, sum(CELLS), 4 * BINS], np.int64))
    return nodes.add("Reshape", [nodes.add("Log", [share]), flat])


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre and stride of every cell [3549], in pixels."""
    parts = []
    for stride in STRIDES:
        side = SIZE // stride
        index = np.arange(side * side)
        parts.append(
            (
                (index % side + 0.5) * stride,
                (index // side + 0.5) * stride,
                np.full(side * side, float(stride)),
            )
        )
    x, y, stride_of = (np.concatenate(one) for one in zip(*parts, strict=True))
    return x, y, stride_of


class _Nodes:
    """Nodes and constants to be, with names that no detector has."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"adapter/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def take(self, nodes: Sequence[onnx.NodeProto]) -> None:
        self.nodes.extend(nodes)

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"adapter/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def slice(self, source: str, start: int, end: int, axis: int) -> str:
        numbers = [self.constant(np.array([number], np.int64)) for number in (start, end, axis)]
        return self.add("Slice", [source, *numbers])


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
