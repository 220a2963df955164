"""onnxruntime-genai, as its own model builder writes a model (see
:mod:`benchmarks.external.runtimes.prepare`)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_genai as og
from numpy.typing import NDArray
from onnx import helper

from benchmarks.external.runtimes.engines.base import EngineSpec
from edge_runtime.errors import ConfigError


class Genai:
    """See :class:`benchmarks.external.runtimes.engines.base.Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        config_file = spec.path / "genai_config.json"
        if not config_file.is_file():
            raise ConfigError(f"{config_file}: missing; run: python -m benchmarks.external.runtimes.prepare")
        decoder = json.loads(config_file.read_text(encoding="utf-8"))["model"]["decoder"]
        self.version = f"onnxruntime-genai {metadata.version('onnxruntime-genai')}"
        self.weight_bytes = _weight_bytes(spec.path / decoder["filename"])
        heads, width, layers = (
            decoder[name] for name in ("num_key_value_heads", "head_size", "num_hidden_layers")
        )
        self.row_bytes = 2 * layers * heads * width * 4
        config = og.Config(str(spec.path))
        config.overlay(
            json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": spec.threads}}}})
        )
        self._model = og.Model(config)
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=spec.rows, do_sample=False)
        self._generator = og.Generator(self._model, params)

    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self._generator.append_tokens(np.asarray(ids, dtype=np.int32))
        logits: NDArray[np.float32] = np.asarray(self._generator.get_logits()).reshape(-1)
        return logits

    def rewind(self, rows: int) -> None:
        self._generator.rewind_to(rows)


def _weight_bytes(path: Path) -> int:
    """Bytes of a graph's stored tensors, without the table that tokens are looked up in."""
    graph = onnx.load(path, load_external_data=False).graph
    tables = {node.input[0] for node in graph.node if node.op_type.startswith("Gather")}
    kinds = {tensor.name: helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in graph.initializer}
    return sum(
        math.prod(tensor.dims) * kinds[tensor.name].itemsize
        for tensor in graph.initializer
        if tensor.name not in tables
    )


def open_engine(spec: EngineSpec) -> Genai:
    """``spec.path``: the folder that the library's model builder wrote. Raises ConfigError."""
    return Genai(spec)
