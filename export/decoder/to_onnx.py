"""Graph module -> ONNX, the same for every lowering."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch

from export.decoder.deferred import DeferredModel, trace
from export.decoder.graph import LOGIT_ROWS, DecoderGraph
from export.errors import ExportError

_TRACED_OPSET = 18
"""Oldest opset of PyTorch's exporter; a lowering that needs opset 17 has the result rewritten."""
_REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
"""Opset 18 made their axes an input."""
_RESIZE_18 = {"antialias": 0, "axes": None, "keep_aspect_ratio_policy": b"stretch"}
"""Attributes that opset 18 gave Resize, and what it did before: all axes, no choice."""


def export_decoder(graph: DecoderGraph) -> DeferredModel:
    """ONNX model of ``graph``; the chunk length S is dynamic, everything else fixed.

    ``logit_rows``, where the graph has it, is optional and R long: without it the graph gives the logits of
    the last position.
    """
    lowering = graph.lowering
    length = torch.export.Dim("S", min=1, max=graph.shape.context_rows)
    cache = [None] * (2 * graph.shape.num_layers)
    deepstack = [{2: length}] if graph.deepstack else []
    varying: list[Any] = [{1: length}, {2: length}, None, cache, *deepstack]
    if graph.chooses_rows:
        rows = torch.export.Dim("R", min=1, max=graph.shape.context_rows)
        varying += [*([] if graph.deepstack else [None]), {0: rows}]
    traced = trace(
        graph,
        graph.example_inputs(),
        graph.matrices,
        opset_version=max(lowering.opset, _TRACED_OPSET),
        input_names=graph.input_names(),
        output_names=graph.output_names(),
        dynamic_shapes=tuple(varying),
        custom_translation_table=lowering.translations,
    )
    model = traced.model
    if lowering.opset < _TRACED_OPSET:
        to_opset_17(model)
    _drop_unused_outputs(model.graph)
    inputs = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    names = {inputs["inputs_embeds"][1].dim_param: "S"}
    if graph.chooses_rows:
        names[inputs[LOGIT_ROWS][0].dim_param] = "R"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), LOGIT_ROWS))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    return traced


def _drop_unused_outputs(graph: onnx.GraphProto) -> None:
    """Optional outputs that nobody reads: TensorRT refuses an Attention that names them."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        while len(node.output) > 1 and node.output[-1] not in read:
            node.output.pop()


def to_opset_17(model: onnx.ModelProto) -> None:
    """Rewrite, in place, a graph of opset 18.

    onnx's own converter has no way back for Split. Raises ExportError for an operator that opset 18 changed
    and that no graph has held so far.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Split":
            _drop_attribute(node, "num_outputs")  # without a list of sizes, parts are equal
        elif node.op_type in _REDUCTIONS:
            _drop_attribute(node, "noop_with_empty_axes")
            if len(node.input) > 1:
                axes = onnx.numpy_helper.to_array(constants[node.input.pop()])
                node.attribute.append(onnx.helper.make_attribute("axes", axes.tolist()))
        elif node.op_type == "Resize" and not _new_in_18(node):
            for name in _RESIZE_18:
                _drop_attribute(node, name)
        elif onnx.defs.get_schema(node.op_type, _TRACED_OPSET).since_version == _TRACED_OPSET:
            raise ExportError(f"{node.op_type} ({node.name}) has no form in opset 17")
    _drop_unread_constants(model.graph)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = 17
    model.ir_version = min(model.ir_version, 8)


def _drop_unread_constants(graph: onnx.GraphProto) -> None:
    """Constants that nobody reads any more; an engine would warn of each."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]


def _new_in_18(resize: onnx.NodeProto) -> bool:
    """Whether a Resize does what it could not before opset 18."""
    for attribute in resize.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.name in _RESIZE_18 and value != _RESIZE_18[attribute.name]:
            return True
    return False


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
