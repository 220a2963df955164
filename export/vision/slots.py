"""Vision of object slots: the detector, and behind it what follows its objects over time, in one graph.

Only the detector is ever rounded. Positions, ranks and comparisons behind it stay fp32: a rounded one would
give an object another slot, and a score at the limit another answer.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from train.models.perception.graph import compose
from train.models.perception.nanodet import HEADS
from train.models.perception.vision import SlotHead

_NORMALISED = "normalised"
"""The detector's own name for its pixels after normalisation, which is done in fp32."""


def slot_graph(detector: onnx.ModelProto, head: SlotHead, dtype: torch.dtype) -> onnx.ModelProto:
    """Join detector and head (tracker and projector). ``dtype``: in which the detector computes."""
    if dtype == torch.float16:
        detector = detector_in_fp16(detector)
    return compose(detector, head)


def detector_in_fp16(detector: onnx.ModelProto) -> onnx.ModelProto:
    """Let the detector compute in fp16; its input and its outputs stay fp32."""
    result = onnx.ModelProto()
    result.CopyFrom(detector)
    graph = result.graph
    del graph.value_info[:]
    before = _before_first_layer(graph)
    start = _NORMALISED if _NORMALISED in before else "pixels"
    kept = {name for node in graph.node if node.output[0] in before for name in node.input}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    nodes = []
    for node in graph.node:
        if node.output[0] not in before:
            node.input[:] = [f"{start}/half" if name == start else name for name in node.input]
            node.output[:] = [f"{name}/half" if name in HEADS else name for name in node.output]
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        nodes.append(node)
    place = 1 + max((index for index, node in enumerate(nodes) if node.output[0] in before), default=-1)
    nodes.insert(place, helper.make_node("Cast", [start], [f"{start}/half"], to=TensorProto.FLOAT16))
    nodes += [helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT) for name in HEADS]
    nodes = [copy.deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(result, full_check=True)
    return result


def _before_first_layer(graph: onnx.GraphProto) -> set[str]:
    """Names that the normalisation of pixels gives; empty for a detector without one."""
    made: set[str] = set()
    if any(_NORMALISED in node.output for node in graph.node):
        for node in graph.node:
            made |= set(node.output)
            if _NORMALISED in node.output:
                break
    return made
