"""A bundle whose sessions take several queries, and texts put into the mouth of its model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

import edge_runtime
from edge_runtime.engine.decoder import CachedDecoder, Generated
from edge_runtime.engine.model import Model


def load_with(bundle: Path, out: Path, queries: int, threads: int = 1) -> Model:
    """The bundle, as if its stream format had numbers for so many queries."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "bundle.json").read_text())
    manifest["protocol"]["queries_per_session"] = queries
    (out / "bundle.json").write_text(json.dumps(manifest))
    return edge_runtime.load(out, threads=threads)


def script(monkeypatch: pytest.MonkeyPatch, model: Model, texts: Sequence[str]) -> list[str]:
    """Each response that a session of ``model`` generates says the next of ``texts``, the last one for ever.

    The tokens really go through the decoder. Returns the texts that are left.
    """
    left = list(texts)

    def generate(self: CachedDecoder, first: Sequence[int], start: int, **options: Any) -> Generated:
        text = left.pop(0) if len(left) > 1 else left[0]
        ids = model.tokenizer.encode(" " + text)[: options["max_tokens"]]
        self.append([*first, *ids], start)
        return Generated(tuple(ids), len(first) + len(ids), True, perf_counter())

    monkeypatch.setattr(CachedDecoder, "generate", generate)
    return left
