from __future__ import annotations

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from export.decoder.deferred import DeferredModel  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.quantization.fp16_weights import with_fp16_weights  # noqa: E402
from export.quiet import quiet  # noqa: E402
from export.vision.base import export_vision  # noqa: E402
from export.vision.compact import CompactVisionGraph  # noqa: E402

TRACE = np.random.default_rng(2).standard_normal((1, 48, 7, 7)).astype(np.float32)
"""Of the frame before."""


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def expected(tiny_model, pixels):
    with torch.inference_mode():
        features = tiny_model.backbone(pixels)
        tokens, _ = tiny_model.model.projector.see(features, torch.from_numpy(TRACE))
        alone = tiny_model.model.projector(features)
        assert not torch.allclose(tokens, alone, atol=1e-3), "the frame before changes nothing"
        return tokens.numpy()


def run(model: onnx.ModelProto, pixels: torch.Tensor) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"pixels": pixels.numpy(), "previous": TRACE}
    return session.run(["tokens"], inputs)[0]


def test_folding_batch_norms_changes_nothing(tiny_model, pixels, expected):
    graph = CompactVisionGraph(tiny_model.backbone, tiny_model.model.projector)
    with torch.inference_mode():
        np.testing.assert_allclose(graph(pixels, torch.from_numpy(TRACE))[0].numpy(), expected, atol=1e-5)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in tiny_model.backbone), "the model was changed"


def test_exported_graph_and_its_half_storage(tiny_model, pixels, expected):
    with quiet():
        model = export_vision(
            CompactVisionGraph(tiny_model.backbone, tiny_model.model.projector), (224, 224)
        ).inline()
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, pixels), expected, atol=1e-5)

    half = with_fp16_weights(DeferredModel(model)).inline()
    onnx.checker.check_model(half)
    assert half.ByteSize() < 0.52 * model.ByteSize()
    result = run(half, pixels)
    assert 0 < np.abs(result - expected).max() < 5e-3
    assert result.dtype == np.float32


def test_values_beyond_fp16_stay_fp32():
    large = onnx.numpy_helper.from_array(np.full((300,), 1e5, np.float32), "large")
    small = onnx.numpy_helper.from_array(np.full((300,), 0.1, np.float32), "small")
    nodes = [onnx.helper.make_node("Add", ["large", "small"], ["sum"])]
    output = onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [300])
    graph = onnx.helper.make_graph(nodes, "g", [], [output], initializer=[large, small])
    result = with_fp16_weights(DeferredModel(onnx.helper.make_model(graph))).inline()
    kinds = {tensor.name: tensor.data_type for tensor in result.graph.initializer}
    assert kinds == {"large": onnx.TensorProto.FLOAT, "small.fp16": onnx.TensorProto.FLOAT16}


def test_a_batch_norm_without_convolution_is_refused(tiny_model):
    backbone = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(3), *tiny_model.backbone)
    with pytest.raises(ExportError, match="batch norm follows no convolution"):
        CompactVisionGraph(backbone, tiny_model.model.projector)
