"""llama.cpp through its Python binding, with the GGUF file as it is."""

from __future__ import annotations

from collections.abc import Sequence

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.external.runtimes.engines.base import EngineSpec
from edge_runtime.errors import ConfigError

_PAD_ROWS = 256
"""llama.cpp rounds its cache up to this."""


class LlamaCpp:
    """See :class:`benchmarks.external.runtimes.engines.base.Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        try:
            self._model = llama_cpp.Llama(
                str(spec.path),
                n_ctx=-(-spec.rows // _PAD_ROWS) * _PAD_ROWS,
                n_threads=spec.threads,
                n_threads_batch=spec.threads,
                n_gpu_layers=0,
                verbose=False,
            )
        except ValueError as error:
            raise ConfigError(f"{spec.path}: llama.cpp cannot load it ({error})") from error
        metadata = self._model.metadata
        family = metadata["general.architecture"]
        heads, kv_heads, layers, width = (
            int(metadata[f"{family}.{name}"])
            for name in (
                "attention.head_count",
                "attention.head_count_kv",
                "block_count",
                "embedding_length",
            )
        )
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        self.weight_bytes = spec.path.stat().st_size
        self.row_bytes = 2 * layers * kv_heads * (width // heads) * 2  # its cache is fp16
        self._vocab = self._model.n_vocab()

    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self._model.eval(list(ids))
        last = llama_cpp.llama_get_logits_ith(self._model.ctx, -1)
        logits: NDArray[np.float32] = np.ctypeslib.as_array(last, (self._vocab,))
        return logits

    def rewind(self, rows: int) -> None:
        self._model.n_tokens = rows  # the next call removes what lies behind


def open_engine(spec: EngineSpec) -> LlamaCpp:
    """``spec.path``: a GGUF file. Raises ConfigError."""
    return LlamaCpp(spec)
