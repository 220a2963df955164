"""Weights in few bits, on one product: what ONNX Runtime computes from them against the product itself."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export.decoder.deferred import DeferredModel  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.quantization.weights import quantize_for_ort, quantize_for_tensorrt  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((256, 96)).astype(np.float32)
X = RNG.standard_normal((1, 4, 256)).astype(np.float32)


def product(kind, opset, weight=WEIGHT):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, [1, "S", weight.shape[0]])],
        [helper.make_tensor_value_info("y", kind, [1, "S", weight.shape[1]])],
        initializer=[numpy_helper.from_array(weight.astype(helper.tensor_dtype_to_np_dtype(kind)), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "opset", "error", "share"),
    [
        ("int8", 17, 0.02, 0.3),
        ("int8", 24, 0.02, 0.3),
        ("int4", 24, 0.25, 0.2),
        ("fp8", 24, 0.06, 0.3),
    ],
)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_for_tensorrt(precision, opset, error, share, kind):
    model = product(kind, opset)
    result = quantize_for_tensorrt(DeferredModel(model), precision).inline()
    onnx.checker.check_model(result)
    assert result.graph.node[0].op_type == "DequantizeLinear"
    assert result.ByteSize() < share * product(TensorProto.FLOAT, opset).ByteSize()
    assert [node.op_type for node in model.graph.node] == ["MatMul"], "the model was changed"
    x = X.astype(helper.tensor_dtype_to_np_dtype(kind))
    expected = X @ WEIGHT
    relative = np.abs(run(result, x) - expected).mean() / np.abs(expected).mean()
    assert 1e-4 < relative < error


@pytest.mark.parametrize(
    ("precision", "block_size", "error"), [("int8", 32, 0.03), ("int8", 128, 0.03), ("int4", 32, 0.2)]
)
def test_for_onnx_runtime(precision, block_size, error):
    result = quantize_for_ort(DeferredModel(product(TensorProto.FLOAT, 18)), precision, block_size).inline()
    (node,) = result.graph.node
    assert node.op_type == "MatMulNBits"
    assert {a.name: a.i for a in node.attribute}["block_size"] == block_size
    expected = X @ WEIGHT
    relative = np.abs(run(result, X) - expected).mean() / np.abs(expected).mean()
    assert 1e-4 < relative < error


def test_a_column_of_zeros_stays_zero():
    weight = WEIGHT.copy()
    weight[:, 3] = 0
    result = run(
        quantize_for_tensorrt(DeferredModel(product(TensorProto.FLOAT, 17, weight)), "int8").inline(), X
    )
    assert np.abs(result[..., 3]).max() < 1e-6 and np.isfinite(result).all()


def test_inputs_that_make_no_blocks_are_refused():
    odd = RNG.standard_normal((200, 8)).astype(np.float32)
    with pytest.raises(ExportError, match="blocks of 128 or 64; w has 200; choose int8"):
        quantize_for_tensorrt(DeferredModel(product(TensorProto.FLOAT16, 24, odd)), "int4")
