"""Matrices in 4 bits: what ONNX Runtime computes from them is the product with the weight they stand for."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export.decoder.deferred import DeferredModel  # noqa: E402
from export.decoder.packed import for_graph, join, pack  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.quantization import weights  # noqa: E402
from export.quantization.weights import quantize_for_ort  # noqa: E402

RNG = np.random.default_rng(0)


def matrix(outputs: int = 48, inputs: int = 160, block: int = 32, zeros: bool = False):
    codes = RNG.integers(0, 16, (outputs, inputs))
    blocks = (outputs, inputs // block)
    scales = RNG.uniform(0.01, 0.1, blocks).astype(np.float32)
    middle = RNG.integers(0, 16, blocks) if zeros else None
    expected = codes - (8 if middle is None else np.repeat(middle, block, axis=1))
    return pack(codes, scales, middle), (expected * np.repeat(scales, block, axis=1)).astype(np.float32)


def run(weight: np.ndarray, packed, x: np.ndarray) -> np.ndarray:
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        [helper.make_tensor_value_info("x", kind, [1, "S", weight.shape[1]])],
        [helper.make_tensor_value_info("y", kind, [1, "S", weight.shape[0]])],
        initializer=[numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model = quantize_for_ort(DeferredModel(model), "int8", 32, {"w": packed}).inline()
    assert [node.op_type for node in model.graph.node] == ["MatMulNBits"]
    assert "w" not in {tensor.name for tensor in model.graph.initializer}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("block", "inputs"), [(32, 160), (128, 256), (16, 96)])
def test_onnx_runtime_computes_with_the_codes_as_they_are(
    block: int, inputs: int, zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "ACCURACY_LEVEL", 1)  # activations in float32, so that nothing is rounded
    packed, expected = matrix(inputs=inputs, block=block, zeros=zeros)
    assert packed.block == block and packed.shape == expected.shape
    assert np.array_equal(packed.dequantized(), expected)
    x = RNG.standard_normal((1, 3, inputs)).astype(np.float32)
    assert np.abs(run(expected, packed, x) - x @ expected.T).max() < 1e-4


def test_modules_are_joined_along_their_outputs() -> None:
    parts = {name: matrix(zeros=name == "k") for name in "qkv"}
    modules = {f"layers.2.self_attn.{name}_proj": packed for name, (packed, _) in parts.items()}
    found = for_graph(modules | {"layers.2.mlp.gate_proj": parts["q"][0], "lm_head": parts["v"][0]})
    assert sorted(found) == ["layers.2.qkv", "lm_head"], "a matrix with a module missing is left out"
    expected = np.concatenate([weight for _, weight in parts.values()])
    assert np.array_equal(found["layers.2.qkv"].dequantized(), expected)


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ExportError, match="different sizes"):
        join([matrix()[0], matrix(inputs=256, block=64)[0]])
    with pytest.raises(ValueError, match="blocks must have"):
        pack(np.zeros((4, 96), int), np.ones((4, 2), np.float32))
    with pytest.raises(ExportError, match="the graph has no product with v"):
        empty = DeferredModel(helper.make_model(helper.make_graph([], "g", [], [])))
        quantize_for_ort(empty, "int8", 32, {"v": matrix()[0]})
    packed, _ = matrix()
    with pytest.raises(ExportError, match=r"w is \(96, 48\), its quantized form \(160, 48\)"):
        run(np.zeros((48, 96), np.float32), packed, np.zeros((1, 1, 96), np.float32))
