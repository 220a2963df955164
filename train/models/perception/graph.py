"""ONNX graphs of the vision: the detector that takes pixels, alone and with what follows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from train.models.perception.nanodet import HEADS, MEAN, SIZE, STD
from train.models.perception.tfjs import OPSET, ConversionError, convert
from train.models.perception.vision import SlotHead
from train.models.perception.zones import no_zones

_SEEN = "seen_pixels"


def convert_detector(model: Path) -> onnx.ModelProto:
    """Convert NanoDet's ``nanodet.json`` to a detector that takes RGB pixels in 0..255.

    Raises:
        ConversionError: for a file that is not this network.
        OSError: for a file that cannot be read.
    """
    try:
        detector = convert(model, HEADS)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConversionError):
            raise
        raise ConversionError(f"{model}: no TensorFlow.js graph model ({error!r})") from error
    return _take_pixels(detector)


def check_detector(path: Path) -> None:
    """Raise ValueError unless ``path`` is a detector as :func:`convert_detector` makes it."""
    try:
        model = onnx.load(path)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ValueError(f"{path}: cannot be read as ONNX ({error})") from error
    except Exception as error:  # protobuf's DecodeError has no public base class
        if type(error).__name__ != "DecodeError":
            raise
        raise ValueError(f"{path}: cannot be read as ONNX ({error})") from error
    found = {value.name: _shape(value) for value in (*model.graph.input, *model.graph.output)}
    wanted: dict[str, list[int]] = {"pixels": [1, 3, SIZE, SIZE]}
    for name in HEADS:
        kind, stride = name.split("_")
        wanted[name] = [1, (SIZE // int(stride)) ** 2, 80 if kind == "scores" else 44]
    for name, shape in wanted.items():
        if found.get(name) != shape:
            raise ValueError(
                f"{path}: {name} has the shape {found.get(name)}, expected {shape}; "
                "make it with: python -m train.models.perception convert"
            )


def compose(detector: onnx.ModelProto, head: SlotHead) -> onnx.ModelProto:
    """Join the detector and the head: ``pixels``, ``previous`` (and ``zones``) -> ``tokens``, ``trace``."""
    seen = onnx.ModelProto()
    seen.CopyFrom(detector)
    seen.graph.node.append(helper.make_node("Identity", ["pixels"], [_SEEN]))
    seen.graph.output.append(helper.make_tensor_value_info(_SEEN, onnx.TensorProto.FLOAT, (1, 3, SIZE, SIZE)))
    after = onnx.compose.add_prefix(export_head(head), "head/", rename_inputs=False, rename_outputs=False)
    after.ir_version = seen.ir_version
    io_map = [(name, name) for name in HEADS]
    merged = onnx.compose.merge_models(
        seen, _renamed_input(after, "pixels", "frame"), io_map=[*io_map, (_SEEN, "frame")], name="vision"
    )
    del merged.opset_import[1:]  # both parts name the same
    onnx.checker.check_model(merged, full_check=True)
    return merged


def export_head(head: SlotHead) -> onnx.ModelProto:
    """Export the head alone, at the detector's opset."""
    shapes = [(1, (SIZE // stride) ** 2, values) for values in (80, 44) for stride in (8, 16, 32)]
    inputs = (*(torch.rand(shape) for shape in shapes), torch.rand(1, 3, SIZE, SIZE) * 255, head.first())
    names = [*HEADS, "pixels", "previous"]
    if head.reads_zones:
        inputs, names = (*inputs, no_zones()), [*names, "zones"]
    program = torch.onnx.export(
        head.eval(),
        inputs,
        dynamo=True,
        opset_version=OPSET,
        input_names=names,
        output_names=["tokens", "trace"],
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _take_pixels(detector: onnx.ModelProto) -> onnx.ModelProto:
    """Put the normalisation in front, and let the first convolution read RGB instead of BGR."""
    graph = detector.graph
    (first,) = [node for node in graph.node if "pixels" in node.input]
    if first.op_type != "Conv":
        raise ConversionError(f"the detector begins with {first.op_type}, not with a convolution")
    (weight,) = [tensor for tensor in graph.initializer if tensor.name == first.input[1]]
    turned = np.ascontiguousarray(numpy_helper.to_array(weight)[:, ::-1])
    weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
    first.input[0] = "normalised"
    for name, values in (("mean", MEAN), ("std", STD)):
        array = np.array(values, np.float32).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, name))
    graph.node.insert(0, helper.make_node("Div", ["centred", "std"], ["normalised"]))
    graph.node.insert(0, helper.make_node("Sub", ["pixels", "mean"], ["centred"]))
    onnx.checker.check_model(detector)
    return detector


def _renamed_input(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
    for value in model.graph.input:
        if value.name == old:
            value.name = new
    return model


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
