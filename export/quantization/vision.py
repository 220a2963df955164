"""The vision graph in int8 for ONNX Runtime on a CPU: static quantisation, weights and activations.

Scales of activations are read from frames that pass through the fp32 graph. Activations are unsigned, weights
signed with one scale for each output channel: what the processor's int8 dot products take.

Only the backbone is quantised, without its first layers. The projector compares frames, and rounding there
looks like motion; the channels of the first layers differ in range by an order of magnitude and share one
scale.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.backends.ort import session_options
from edge_runtime.backends.select import default_threads
from edge_runtime.engine.preprocess import letterbox, normalise
from export.errors import ExportError
from export.validation.parity_stream import story_stream
from train.data.features import read_frames
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD

FRAMES = 60
"""As many frames set the scales; twice as many change the error by less than its noise."""
SEED = 4111
"""Of the stories they come from: neither those of a split nor those of the parity stream."""
KEPT_CONVOLUTIONS = 26
"""Convolutions from the pixels on that stay fp32. How far visual tokens move is the projector's doing, too:
the longer `nano` was trained, the more it makes of small differences between frames. Of the one that is
shipped 99.1 % of decisions are those of fp32 with twenty kept, 99.7 % with 26, 99.8 % with thirty; the
decoder's KL divergence is 0.0064, 0.0051 and 0.0052."""
_QUANTISED = ("Conv", "Add", "Clip")
_PROJECTOR = "projector."

Pixels = NDArray[np.float32]


def story_frames(fps: float, count: int = FRAMES) -> Iterator[NDArray[np.uint8]]:
    """Frames uint8 [H, W, 3] of generated stories, what a model trained on the world sees."""
    return (step.frame for step in itertools.islice(story_stream(fps, SEED), count))


def frames_of(video: Path, fps: float = 1.0, count: int = FRAMES) -> Iterator[NDArray[np.uint8]]:
    """Up to ``count`` timesteps of ``video``, uint8 [H, W, 3]. Raises ExportError when it can't be read."""
    try:
        yield from (frame for _, frame in itertools.islice(read_frames(video, fps), count))
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ExportError(f"{video}: {error}") from error


def quantize_vision(model: onnx.ModelProto, frames: Iterable[NDArray[np.uint8]]) -> onnx.ModelProto:
    """The fp32 vision graph (:mod:`export.vision.compact`) with its backbone in int8.

    ``frames``: uint8 [H, W, 3], of any size, in the order of their stream. Raises ExportError when there are
    none.
    """
    # Here, because the import configures the root logger: the caller wraps this in quiet().
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = list(_calibration_inputs(model, frames))
    if not inputs:
        raise ExportError("vision: no frame to read the scales of int8 from")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory(prefix="vision-") as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, prepared)
        quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept_nodes(onnx.load(prepared)),
        )
        return onnx.load(result)


def kept_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay fp32: the first layers, and all of the projector."""
    nodes = list(model.graph.node)
    convolutions = [index for index, node in enumerate(nodes) if node.op_type == "Conv"]
    first = set(range(convolutions[min(KEPT_CONVOLUTIONS, len(convolutions) - 1)]))
    # everything behind the projector's first layer is the projector's
    made = {tensor.name for tensor in model.graph.initializer if tensor.name.startswith(_PROJECTOR)}
    for index, node in enumerate(nodes):
        if index not in first and made & set(node.input):
            made |= set(node.output)
    return [node.name for index, node in enumerate(nodes) if index in first or made & set(node.output)]


def _calibration_inputs(
    model: onnx.ModelProto, frames: Iterable[NDArray[np.uint8]]
) -> Iterator[dict[str, Pixels]]:
    """Inputs of every call, each with the trace that the frame before has left."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(default_threads()), providers=["CPUExecutionProvider"]
    )
    shapes = {value.name: value.shape for value in session.get_inputs()}
    trace = np.zeros(shapes["previous"], np.float32) if "previous" in shapes else None
    for frame in frames:
        pixels = normalise(letterbox(frame, (IMAGE_SIZE, IMAGE_SIZE)), IMAGE_MEAN, IMAGE_STD)
        if trace is None:
            yield {"pixels": pixels}
            continue
        yield {"pixels": pixels, "previous": trace}
        trace = session.run(["trace"], {"pixels": pixels, "previous": trace})[0]
