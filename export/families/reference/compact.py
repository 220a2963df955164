"""A compact checkpoint streamed with plain PyTorch: what its graphs are measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.families.reference.llama import LlamaReference
from train.models.compact.model import FEATURE_GRID, TRACE_CHANNELS, CompactModel


class CompactReference(LlamaReference):
    """See :class:`export.validation.reference.Reference`."""

    def __init__(self, model: CompactModel, backbone: nn.Module, image_id: int) -> None:
        super().__init__(model, model.decoder, backbone, image_id)
        self._previous = torch.zeros(1, TRACE_CHANNELS, FEATURE_GRID, FEATURE_GRID)

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.float32]) -> None:
        features = self._backbone(torch.from_numpy(pixels))
        if self._model.config.motion:
            self._visual, self._previous = self._model.projector.see(features, self._previous)
        else:
            self._visual = self._model.projector(features)
