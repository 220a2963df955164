"""A SmolVLM2 checkpoint streamed with plain PyTorch: what its graphs are measured against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from export.families.reference.llama import LlamaReference
from train.models.smolvlm.model import SmolVLM
from train.models.smolvlm.vision import SiglipVision
from train.models.stored import tied_head


class SmolVLMBackbone(nn.Module):
    """The frozen tower of transformers, in fp32. ``tower``: when it is loaded already."""

    def __init__(self, vision: SiglipVision, tower: nn.Module | None = None) -> None:
        super().__init__()
        self.tower, self._vision = vision.tower() if tower is None else tower, vision

    def forward(self, pixels: Tensor) -> Tensor:
        """``pixels`` [N, 3, H, W], 0 to 1 -> features [N, V, s^2 x C]."""
        return self._vision.features(self.tower, pixels)


class SmolVLMReference(LlamaReference):
    """See :class:`export.validation.reference.Reference`."""

    def __init__(self, model: SmolVLM, backbone: nn.Module, image_id: int) -> None:
        super().__init__(model, _with_head(model), backbone, image_id)

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.float32]) -> None:
        self._visual = self._model.visual(self._backbone(torch.from_numpy(pixels))).tokens


def _with_head(model: SmolVLM) -> LlamaForCausalLM:
    """The decoder and its output matrix as transformers' own causal model, which shares the weights."""
    decoder: Any = model.decoder
    with torch.device("meta"):
        whole = LlamaForCausalLM(decoder.config)
    whole.model = decoder
    whole.lm_head = tied_head(decoder.embed_tokens) if model.lm_head is None else model.lm_head
    return whole
