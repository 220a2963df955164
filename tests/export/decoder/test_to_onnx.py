from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export.decoder.to_onnx import to_opset_17  # noqa: E402
from export.errors import ExportError  # noqa: E402


def graph(*nodes):
    value = helper.make_tensor_value_info
    axes = numpy_helper.from_array(np.array([-1]), "axes")
    body = helper.make_graph(
        list(nodes),
        "g",
        [value("x", TensorProto.FLOAT, [2, 8])],
        [value("y", TensorProto.FLOAT, [2, None])],
        [axes],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_the_operators_that_opset_18_changed_are_rewritten():
    model = graph(
        helper.make_node("Split", ["x"], ["a", "b"], num_outputs=2, axis=1),
        helper.make_node("ReduceMean", ["a", "axes"], ["mean"], keepdims=1, noop_with_empty_axes=0),
        helper.make_node("Add", ["mean", "b"], ["y"]),
    )
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    to_opset_17(model)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = x[:, :4].mean(axis=1, keepdims=True) + x[:, 4:]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected)


def test_another_operator_of_opset_18_is_refused():
    model = graph(helper.make_node("ReduceSum", ["x", "axes"], ["y"]))
    to_opset_17(model)  # unchanged since opset 13
    with pytest.raises(ExportError, match=r"ReduceMax \(top\) has no form in opset 17"):
        to_opset_17(graph(helper.make_node("ReduceMax", ["x", "axes"], ["y"], name="top")))
