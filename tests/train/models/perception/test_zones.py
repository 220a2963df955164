"""The grid of zones at the foot of boxes, and as an input of the exported graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edge_runtime.video.zones import occupancy
from tests.train.models.perception.blob_detector import blob_detector, moving_blobs
from train.models.compact.slots import SlotProjector
from train.models.perception.graph import compose
from train.models.perception.tracker import Slots, TrackerConfig
from train.models.perception.vision import SlotHead
from train.models.perception.zones import GRID, ZONES, at_feet, no_zones

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
LAWN = ((0.25, 0.5), (0.75, 0.5), (0.75, 1.0), (0.25, 1.0))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (
            (0.4, 0.1, 0.6, 0.7),
            [0.5, 1.0, 0.0, 0.0],
        ),  # on the edge of the first zone, its head outside the second
        ((0.1, 0.2, 0.2, 0.4), [1.0, 0.0, 0.0, 0.0]),
        ((0.3, 0.9, 0.5, 1.0), [1.0, 1.0, 0.0, 0.0]),  # at the border of the frame
        ((0.9, 0.9, 1.0, 1.0), [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_the_foot_of_a_box_decides(box: tuple[float, ...], expected: list[float]) -> None:
    grid = torch.from_numpy(occupancy([LEFT, LAWN], ZONES, GRID))
    found = at_feet(grid, torch.tensor([[box]]))
    torch.testing.assert_close(found[0, 0], torch.tensor(expected), atol=1e-4, rtol=0)


def pixels() -> np.ndarray:
    frame = moving_blobs(1)[0]
    square = np.zeros((416, 416, 3), np.uint8)
    top = (416 - frame.shape[0]) // 2
    square[top : top + frame.shape[0]] = frame
    return np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_zones_are_an_input_of_the_graph() -> None:
    torch.manual_seed(0)
    projector = SlotProjector(TrackerConfig().slots, 1, 32, zones=ZONES).eval()
    graph = compose(blob_detector(), SlotHead(projector))
    run = session(graph)
    assert [(i.name, i.shape) for i in run.get_inputs()][-1] == ("zones", [1, ZONES, GRID, GRID])
    assert not {"GatherND", "ScatterND", "NonZero", "Loop"} & {node.op_type for node in graph.graph.node}
    feeds = {"pixels": pixels(), "previous": SlotHead().first().numpy()}
    plain, trace = run.run(None, feeds | {"zones": no_zones().numpy()})
    slots = Slots.unpack(torch.from_numpy(trace))
    place = int(slots.taken[0].argmax())
    x1, _, x2, y2 = slots.boxes[0, place].tolist()
    x, y = (x1 + x2) / 2, y2
    around = ((x - 0.1, y - 0.1), (x + 0.1, y - 0.1), (x + 0.1, y + 0.1), (x - 0.1, y + 0.1))
    stands, same = run.run(None, feeds | {"zones": occupancy([around], ZONES, GRID)})
    np.testing.assert_array_equal(same, trace)  # what is followed does not depend on zones
    moved = np.abs(stands - plain).max(axis=(0, 2)) > 1e-4
    assert moved[place] and moved[-1]
    assert moved.sum() == 2  # the one who stands there, and the frame's token


def test_a_projector_without_zones_gives_a_graph_without_them() -> None:
    run = session(compose(blob_detector(), SlotHead(SlotProjector(TrackerConfig().slots, 1, 32).eval())))
    assert [i.name for i in run.get_inputs()] == ["pixels", "previous"]
