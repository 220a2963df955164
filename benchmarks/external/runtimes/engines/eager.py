"""The checkpoint in eager PyTorch, fp32, with the cache transformers gives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import DynamicCache

from benchmarks.external.runtimes.engines.base import EngineSpec
from benchmarks.reference.folder import load_torch_checkpoint
from train.models.cache_argument import CACHE_ARGUMENT


class TorchEager:
    """See :class:`benchmarks.external.runtimes.engines.base.Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        torch.set_num_threads(spec.threads)
        self._decoder = load_torch_checkpoint(spec.path).decoder
        config = self._decoder.config
        self.version = f"torch {torch.__version__}, transformers {transformers.__version__}"
        self.weight_bytes = sum(4 * weight.numel() for weight in self._decoder.parameters())
        self.row_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
        self._cache = DynamicCache()

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        output = self._decoder(
            torch.tensor([list(ids)]), **{CACHE_ARGUMENT: self._cache}, use_cache=True, logits_to_keep=1
        )
        logits: NDArray[np.float32] = output.logits[0, -1].numpy()
        return logits

    def rewind(self, rows: int) -> None:
        beyond = int(self._cache.get_seq_length()) - rows
        if rows == 0:
            self._cache = DynamicCache()
        elif beyond > 0:
            self._cache.crop(-beyond)


def open_engine(spec: EngineSpec) -> TorchEager:
    """``spec.path``: a checkpoint folder. Raises CheckpointError."""
    return TorchEager(spec)
