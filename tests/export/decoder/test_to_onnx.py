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


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


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
    with pytest.raises(ExportError, match=r"^Mish \(top\) has no form in opset 17"):
        to_opset_17(graph(helper.make_node("Mish", ["x"], ["y"], name="top")))


@pytest.mark.parametrize("kind", ["Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"])
@pytest.mark.parametrize("axes", [["axes"], []])
def test_reductions_take_their_axes_as_an_attribute(kind, axes):
    x = np.random.default_rng(3).uniform(0.5, 2.0, (2, 8)).astype(np.float32)
    model = graph(
        helper.make_node(f"Reduce{kind}", ["x", *axes], ["r"]), helper.make_node("Add", ["r", "x"], ["y"])
    )
    expected = run(model, x)
    to_opset_17(model)
    onnx.checker.check_model(model, full_check=True)
    assert not model.graph.initializer  # nobody reads the axes any more
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-6)


def test_a_resize_of_opset_18_is_one_of_opset_13_unless_it_does_something_new():
    def resize(**attributes):
        value = helper.make_tensor_value_info
        node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up", mode="linear", **attributes)
        body = helper.make_graph(
            [node],
            "g",
            [value("x", TensorProto.FLOAT, [1, 1, 3, 4])],
            [value("y", TensorProto.FLOAT, [1, 1, 6, 8])],
            [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
        )
        return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    model = resize(antialias=0, keep_aspect_ratio_policy="stretch")
    expected = run(model, x)
    to_opset_17(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, x), expected)
    with pytest.raises(ExportError, match=r"Resize \(up\) has no form"):
        to_opset_17(resize(antialias=1))
