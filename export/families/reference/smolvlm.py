"""A SmolVLM2 checkpoint streamed with plain PyTorch: what its graphs are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from edge_runtime.kv_cache.window import EvictionPlan
from export.families.reference.decoder import TorchStreamingDecoder, kept_ranges
from train.models.smolvlm.model import SmolVLM
from train.models.smolvlm.vision import SiglipVision


class SmolVLMBackbone(nn.Module):
    """The frozen tower of transformers, in fp32. ``tower``: when it is loaded already."""

    def __init__(self, vision: SiglipVision, tower: nn.Module | None = None) -> None:
        super().__init__()
        self.tower, self._vision = vision.tower() if tower is None else tower, vision

    def forward(self, pixels: Tensor) -> Tensor:
        """``pixels`` [N, 3, H, W], 0 to 1 -> features [N, V, s^2 x C]."""
        return self._vision.features(self.tower, pixels)


class SmolVLMReference:
    """See :class:`export.validation.reference.Reference`."""

    def __init__(self, model: SmolVLM, backbone: nn.Module, image_id: int) -> None:
        self._model, self._backbone, self._image_id = model.eval(), backbone.eval(), image_id
        self._decoder = TorchStreamingDecoder(_with_head(model))
        self._visual: Tensor | None = None

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.float32]) -> None:
        self._visual = self._model.visual(self._backbone(torch.from_numpy(pixels))).tokens

    @torch.inference_mode()
    def append(self, ids: Sequence[int], start: int, with_frame: bool) -> NDArray[np.float32]:
        if start < self._decoder.rows:
            self._decoder.truncate(start)
        index = torch.tensor([list(ids)])
        if with_frame:
            assert self._visual is not None
            embeddings = self._model.embed(index, self._visual, self._image_id)
        else:
            embeddings = self._model.embedding(index)
        logits: NDArray[np.float32] = self._decoder.append(embeddings[0]).numpy()
        return logits

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._decoder.cached()

    def evict(self, plan: EvictionPlan) -> None:
        self._decoder.evict(kept_ranges(plan))


def _with_head(model: SmolVLM) -> LlamaForCausalLM:
    """The decoder and its output matrix as transformers' own causal model, which shares the weights."""
    decoder: Any = model.decoder
    with torch.device("meta"):
        whole = LlamaForCausalLM(decoder.config)
    whole.model = decoder
    if model.lm_head is None:
        whole.lm_head.weight = decoder.embed_tokens.weight
    else:
        whole.lm_head = model.lm_head
    return whole
