"""The checkpoint in eager PyTorch, fp32, with the cache of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.external.runtimes.engines.base import EngineSpec
from benchmarks.reference.stream import EagerStream


class EagerEngine:
    """See :class:`benchmarks.external.runtimes.engines.base.Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        self._stream = EagerStream(spec.path, spec.threads)
        self.version = f"torch {torch.__version__}, transformers {transformers.__version__}"
        parameters = self._stream.reference.decoder.parameters()
        self.weight_bytes = sum(4 * weight.numel() for weight in parameters)
        self.row_bytes = self._stream.row_bytes
        self.rewind = self._stream.rewind

    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._stream.append(ids).numpy()
        return logits


def open_engine(spec: EngineSpec) -> EagerEngine:
    """``spec.path``: a checkpoint folder. Raises CheckpointError."""
    return EagerEngine(spec)
