"""What references over a Llama decoder share: everything behind the visual tokens."""

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
from train.models.base import Visual


class LlamaReference:
    """See :class:`export.validation.reference.Reference`. A subclass has ``see``, which sets ``_visual``.

    ``model``: a compact or SmolVLM2 model, whose ``embed`` places the frame's tokens; ``decoder``: its
    decoder with an output matrix.
    """

    def __init__(self, model: Any, decoder: LlamaForCausalLM, backbone: nn.Module, image_id: int) -> None:
        self._model, self._backbone, self._image_id = model.eval(), backbone.eval(), image_id
        self._decoder = TorchStreamingDecoder(decoder)
        self._visual: Tensor | None = None

    def seen(self) -> Visual:
        assert self._visual is not None
        return Visual(self._visual)

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
