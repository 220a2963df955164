"""A compact checkpoint streamed with plain PyTorch: what its graphs are measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_runtime.kv_cache.window import EvictionPlan
from export.families.reference.decoder import TorchStreamingDecoder, kept_ranges
from train.models.compact.model import FEATURE_GRID, TRACE_CHANNELS, CompactModel


class CompactReference:
    """See :class:`export.validation.reference.Reference`."""

    def __init__(self, model: CompactModel, backbone: nn.Module, image_id: int) -> None:
        self._model, self._backbone, self._image_id = model.eval(), backbone.eval(), image_id
        self._decoder = TorchStreamingDecoder(model.decoder)
        self._visual: torch.Tensor | None = None
        self._previous = torch.zeros(1, TRACE_CHANNELS, FEATURE_GRID, FEATURE_GRID)

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.float32]) -> None:
        features = self._backbone(torch.from_numpy(pixels))
        if self._model.config.motion:
            self._visual, self._previous = self._model.projector.see(features, self._previous)
        else:
            self._visual = self._model.projector(features)

    @torch.inference_mode()
    def append(self, ids: Sequence[int], start: int, with_frame: bool) -> NDArray[np.float32]:
        if start < self._decoder.rows:
            self._decoder.truncate(start)
        index = torch.tensor([list(ids)])
        if with_frame:
            assert self._visual is not None
            embeddings = self._model.embed(index, self._visual, self._image_id)
        else:
            embeddings = self._model.decoder.get_input_embeddings()(index)
        logits: NDArray[np.float32] = self._decoder.append(embeddings[0]).numpy()
        return logits

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._decoder.cached()

    def evict(self, plan: EvictionPlan) -> None:
        self._decoder.evict(kept_ranges(plan))
