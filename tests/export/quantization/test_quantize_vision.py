from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from edge_runtime.engine.preprocess import letterbox, normalise  # noqa: E402
from export.decoder.targets import find_target  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.quantization.vision import (  # noqa: E402
    KEPT_CONVOLUTIONS,
    frames_of,
    kept_nodes,
    quantize_vision,
    story_frames,
)
from export.quiet import quiet  # noqa: E402
from export.vision.base import export_vision  # noqa: E402
from export.vision.compact import CompactVisionGraph  # noqa: E402
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_STD, load_lite0  # noqa: E402

SAMPLE = Path(__file__).parents[3] / "edge_runtime" / "samples" / "sample.mp4"


@pytest.fixture(scope="module")
def graphs(tiny_model):
    """The real backbone in front of a random projector: fp32 and int8."""
    with quiet(), torch.no_grad():
        exact = export_vision(
            CompactVisionGraph(load_lite0(), tiny_model.model.projector), (224, 224)
        ).inline()
        return exact, quantize_vision(exact, story_frames(1.0, 24))


def tokens(model: onnx.ModelProto, frames: list[np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    trace, out = np.zeros((1, 48, 7, 7), np.float32), []
    for frame in frames:
        pixels = normalise(letterbox(frame, (224, 224)), IMAGE_MEAN, IMAGE_STD)
        said, trace = session.run(["tokens", "trace"], {"pixels": pixels, "previous": trace})
        out.append(said)
    return np.concatenate(out)


def test_int8_sees_nearly_the_same_in_frames_it_was_not_scaled_by(graphs):
    exact, int8 = graphs
    onnx.checker.check_model(int8)
    assert int8.ByteSize() < 0.45 * exact.ByteSize()
    frames = list(frames_of(SAMPLE, count=12))
    assert len(frames) == 12
    expected, found = tokens(exact, frames), tokens(int8, frames)
    error = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert 0 < error.mean() < 0.1


def test_first_layers_and_projector_stay_exact(graphs):
    exact, int8 = graphs
    kept = set(kept_nodes(exact))
    rounded = {name for node in int8.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in int8.graph.node if node.op_type == "Conv"]
    in_int8 = [node.name for node in convolutions if node.input[1] in rounded]
    assert in_int8 and not kept & set(in_int8)
    exact_ones = [node for node in convolutions if node.name not in in_int8]
    assert len(exact_ones) == KEPT_CONVOLUTIONS + 5  # the projector has five convolutions


def test_scales_need_frames(graphs, tmp_path):
    with quiet(), pytest.raises(ExportError, match="no frame"):
        quantize_vision(graphs[0], [])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(SAMPLE.read_bytes()[:2000])
    with pytest.raises(ExportError, match=r"broken\.mp4"):
        list(frames_of(broken))


def test_story_frames_move():
    first, second = itertools.islice(story_frames(1.0), 2)
    assert first.shape == second.shape and (first != second).any()


@pytest.mark.parametrize(
    ("target", "precision", "wanted", "expected"),
    [
        ("ort-cpu", "fp32", None, "fp32"),
        ("ort-cpu", "fp32", "int8", "int8"),
        ("tensorrt", "fp16", None, "fp16"),
        ("tensorrt", "fp32", None, "fp32"),
    ],
)
def test_precision_of_a_target(target, precision, wanted, expected):
    assert find_target(target).vision(precision, wanted) == expected


def test_a_precision_that_a_target_cannot_do_is_named_with_those_it_can():
    with pytest.raises(ExportError, match=r"tensorrt cannot do vision in int8 .* it can do fp16"):
        find_target("tensorrt").vision("fp16", "int8")
