"""A detector for tests: red blobs are persons, green blobs cars. The outputs are shaped like NanoDet's."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from train.models.perception.nanodet import BINS, CLASSES, HEADS, SIZE, STRIDES

PERSON, CAR = CLASSES.index("person"), CLASSES.index("car")


def blob_detector() -> onnx.ModelProto:
    """Score how much redder or greener than the rest a cell of stride 32 is; boxes are 96 pixels wide."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = [numpy_helper.from_array(np.zeros((), np.float32), "low")]
    colour = np.zeros((80, 3, 1, 1), np.float32)
    colour[PERSON, :, 0, 0] = 1 / 255, -1 / 255, -1 / 255
    colour[CAR, :, 0, 0] = -1 / 255, 1 / 255, -1 / 255
    sides = np.full((4, BINS), -20.0, np.float32)
    sides[:, 1:3] = 5.0  # 1.5 strides to every side

    def weight(name: str, array: NDArray[np.generic]) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    def node(operation: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    for stride in STRIDES:
        cells = (SIZE // stride) ** 2
        window = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        mean = node("AveragePool", ["pixels"], f"mean_{stride}", **window)
        # Only the coarsest stride finds anything.
        kernel = weight(f"colour_{stride}", colour if stride == 32 else colour * 0)
        score = node("Clip", [node("Conv", [mean, kernel], f"raw_{stride}"), "low"], f"score_{stride}")
        best = node("MaxPool", [score], f"best_{stride}", kernel_shape=[3, 3], pads=[1] * 4)
        peak = node("Cast", [node("Equal", [score, best], f"is_{stride}")], f"peak_{stride}", to=1)
        flat = weight(f"flat_{stride}", np.array([1, 80, cells], np.int64))
        alone = node("Reshape", [node("Mul", [score, peak], f"alone_{stride}"), flat], f"rows_{stride}")
        node("Transpose", [alone], f"scores_{stride}", perm=[0, 2, 1])
        boxes = np.tile(sides.reshape(1, 1, -1), (1, cells, 1))
        node("Identity", [weight(f"sides_{stride}", boxes)], f"boxes_{stride}")
    outputs = [
        helper.make_tensor_value_info(
            name,
            TensorProto.FLOAT,
            (1, (SIZE // int(name.split("_")[1])) ** 2, 80 if "scores" in name else 4 * BINS),
        )
        for name in HEADS
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, (1, 3, SIZE, SIZE))
    graph = helper.make_graph(nodes, "blobs", [pixels], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def moving_blobs(count: int, height: int = 240, width: int = 416) -> NDArray[np.uint8]:
    """Make frames [count, height, width, 3]: a red block walks to the right, a green one comes and goes."""
    frames = np.full((count, height, width, 3), 60, np.uint8)
    frames += np.random.default_rng(0).integers(0, 9, frames.shape, dtype=np.uint8)
    for t, frame in enumerate(frames):
        x = 8 + t * 12
        frame[130:190, x : x + 60] = (230, 10, 20)
        if 8 <= t < 20:
            frame[20:80, 250:310] = (10, 220, 20)
    return frames
