"""This runtime: a bundle's decoder as a session drives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.external.runtimes.engines.base import EngineSpec
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.bundle.manifest import EMBEDDING, load_bundle
from edge_runtime.engine.decoder import CachedDecoder
from edge_runtime.errors import ConfigError

_NO_TOKEN = -1
"""Text only: no id stands for a visual token."""


class Ours:
    """See :class:`benchmarks.external.runtimes.engines.base.Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        bundle = load_bundle(spec.path)
        model = bundle.model
        if model.context_rows < spec.rows:
            raise ConfigError(
                f"{spec.path}: its cache holds {model.context_rows} rows, {spec.rows} are needed; "
                f"export it with --context-rows {spec.rows}"
            )
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.weight_bytes = sum(
            entry.size for name, entry in bundle.files.items() if name.startswith("decoder.")
        )
        self.row_bytes = 2 * model.num_layers * model.num_kv_heads * model.head_dim * 4
        backend = OrtBackend("cpu", spec.threads, spinning=spec.spinning)
        table = np.load(bundle.path(EMBEDDING), mmap_mode="r", allow_pickle=False)
        self._decoder = CachedDecoder(backend.load_decoder(bundle).open_cache(), table, _NO_TOKEN)
        self._rows = 0

    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        logits = self._decoder.append(ids, self._rows)
        self._rows += len(ids)
        return logits

    def rewind(self, rows: int) -> None:
        self._rows = rows  # what lies behind is overwritten by the next step


def open_engine(spec: EngineSpec) -> Ours:
    """``spec.path``: a bundle."""
    return Ours(spec)
