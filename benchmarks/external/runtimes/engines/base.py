"""What a runtime must do to be measured, and how one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.spinning import Spinning
from edge_runtime.errors import ConfigError


class Engine(Protocol):
    """A decoder with one stream's cache."""

    version: str
    """Library and version, for people."""
    weight_bytes: int
    """Bytes of weights that one step reads at least once."""
    row_bytes: int
    """Bytes that one row of the cache takes, keys and values of all layers; a step reads every row in use."""

    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ``ids`` and return the logits after the last one, float32 [vocab]."""
        ...

    def rewind(self, rows: int) -> None:
        """Forget what was appended after the first ``rows`` rows. Is never timed."""
        ...


@dataclass(frozen=True)
class EngineSpec:
    """One competitor. ``kind``: a key of KINDS; ``path``: what it loads, a file or a folder."""

    label: str
    kind: str
    path: Path
    threads: int
    rows: int
    """Rows its cache must hold."""
    spinning: Spinning = "run"
    """Ours only: when threads poll for work."""


@dataclass(frozen=True)
class Kind:
    """Where an engine's class is, and what brings the library it needs."""

    module: str
    needs: str
    install: str


KINDS = {
    "ours": Kind("ours", "onnxruntime", "pip install 'streampro-edge[cpu]'"),
    "torch": Kind("eager", "torch", "pip install 'streampro-edge[train]'"),
    "genai": Kind("genai", "onnxruntime_genai", "pip install onnxruntime-genai"),
    "llama.cpp": Kind("llama", "llama_cpp", "pip install llama-cpp-python  (compiles for several minutes)"),
}


def open_engine(spec: EngineSpec) -> Engine:
    """Load the library and the model. Raises ConfigError when the library is missing; each engine raises its
    own errors for a model it cannot read."""
    kind = KINDS[spec.kind]
    try:
        module: Any = import_module(f"benchmarks.external.runtimes.engines.{kind.module}")
    except ImportError as error:
        raise ConfigError(f"{spec.label}: {error}; {kind.install}") from error
    engine: Engine = module.open_engine(spec)
    return engine
