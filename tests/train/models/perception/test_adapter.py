"""A detector of another make, adapted to the outputs of NanoDet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from train.models.perception.__main__ import main
from train.models.perception.adapter import CELLS, DetectorLayout, adapt
from train.models.perception.graph import check_detector
from train.models.perception.nanodet import CLASSES, SIZE, decode

OWN = ("forklift", "person", "dog")
CELL, BOX = 52 * 52 + 3, (40.0, 20.0, 96.0, 60.0)
"""A cell of the second grid (its centre at 56, 8), and the box x1, y1, x2, y2 that it gives."""


def detector(*, cxcywh: bool = True, objectness: bool = False, turned: bool = False) -> onnx.ModelProto:
    """Gives one box whatever it sees; the mean of what it read stands in the scores of cell 0."""
    x1, y1, x2, y2 = BOX
    box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1] if cxcywh else list(BOX)
    rows = np.zeros((1, sum(CELLS), 4 + objectness + len(OWN)), np.float32)
    rows[0, CELL] = [*box, *([0.5] if objectness else []), 0.9, 0.8, 0.1]
    rows = rows.transpose(0, 2, 1).copy() if turned else rows
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, SIZE, SIZE))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, rows.shape)],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array(0.0, np.float32), "zero")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("cxcywh", [True, False])
@pytest.mark.parametrize("objectness", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_boxes_and_classes_arrive(tmp_path: Path, cxcywh: bool, objectness: bool, turned: bool) -> None:
    layout = DetectorLayout(OWN, "cxcywh" if cxcywh else "xyxy", objectness, scale=255.0, bgr=True)
    made = adapt(detector(cxcywh=cxcywh, objectness=objectness, turned=turned), layout)
    onnx.save(made, tmp_path / "detector.onnx")
    check_detector(tmp_path / "detector.onnx")  # as the exporter does
    session = onnxruntime.InferenceSession(made.SerializeToString())
    names = [one.name for one in session.get_outputs()]
    found = dict(
        zip(names, session.run(None, {"pixels": np.zeros((1, 3, SIZE, SIZE), np.float32)}), strict=True)
    )
    scores = found["scores_16"][0, 3]
    assert scores[CLASSES.index("person")] == pytest.approx(0.4 if objectness else 0.8)
    assert scores.sum() == pytest.approx(0.45 if objectness else 0.9)  # the forklift is left out
    boxes = decode(torch.from_numpy(found["boxes_16"]), 16)[0, 3] * SIZE
    # The cell's centre lies above the box, whose upper side therefore moves to it.
    assert boxes.tolist() == pytest.approx([40.0, 8.0, 96.0, 60.0], abs=0.2)


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"gives output0 \[1, 3549, 7\]; expected .* for 80 classes"):
        adapt(detector(), DetectorLayout())
    with pytest.raises(ValueError, match="none of the detector's classes"):
        adapt(detector(), DetectorLayout(("forklift", "pallet", "crane")))


def test_the_command(tmp_path: Path) -> None:
    onnx.save(detector(), tmp_path / "own.onnx")
    (tmp_path / "names.txt").write_text("\n".join(OWN))
    out = tmp_path / "detector.onnx"
    arguments = [
        "adapt", str(tmp_path / "own.onnx"), "--classes", str(tmp_path / "names.txt"), "--out", str(out)
    ]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and "left out: forklift" in done.output, done.output
    check_detector(out)
