"""A compact checkpoint with object slots, streamed as training runs it: what its graphs are measured against.

The detector exists as an ONNX file alone, so ONNX Runtime computes it, unrounded in fp32, as it does for the
feature cache of training. Everything behind it is PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.backends.ort import session_options
from export.families.reference.compact import CompactReference
from train.models.compact.model import CompactModel
from train.models.perception.nanodet import HEADS
from train.models.perception.tracker import TrackerConfig
from train.models.perception.vision import SlotHead


class Detector(nn.Module):
    """The frozen detector in ``file``, as a checkpoint holds it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self._session = onnxruntime.InferenceSession(
            str(file), session_options(1), providers=["CPUExecutionProvider"]
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """``pixels`` [1, 3, SIZE, SIZE], 0 to 255 -> one tensor for each of HEADS."""
        heads = self._session.run(list(HEADS), {"pixels": pixels.numpy()})
        return tuple(torch.from_numpy(array) for array in heads)


class SlotReference(CompactReference):
    """See :class:`export.validation.reference.Reference`."""

    def __init__(self, model: CompactModel, backbone: Detector, image_id: int) -> None:
        super().__init__(model, backbone, image_id)
        self._head = SlotHead(model.projector, TrackerConfig(slots=model.config.slots)).eval()
        self._previous = self._head.first()

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.float32]) -> None:
        frame = torch.from_numpy(pixels)
        self._visual, self._previous = self._head(*self._backbone(frame), frame, self._previous)
