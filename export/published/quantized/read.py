"""The weights of a checkpoint that its authors quantized: dense for PyTorch, and packed for the graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from edge_runtime.bundle.quantized_weights import GPTQ, check_quantized
from export.decoder.packed import HEAD, PackedMatrix, for_graph
from export.errors import ExportError
from export.published.quantized.layouts import PARTS, WEIGHT, read_matrix

_DECODER = re.compile(
    r"(?:model\.)?(?:language_model\.|text_model\.)*(?:model\.)?(layers\.\d+\.(?:self_attn|mlp)\.\w+)"
)
"""A module of the decoder; what the vision tower has is named otherwise."""


def read_quantized(
    folder: Path, config: dict[str, Any], where: str
) -> tuple[dict[str, Tensor], dict[str, PackedMatrix]]:
    """Return all weights by name, those that are quantized in float32, and the decoder's matrices in 4 bits.

    ``config``: what config.json says under ``quantization_config``. Raises BundleError or ExportError.
    """
    method = check_quantized(config, where)
    minus_one = method == GPTQ and config.get("checkpoint_format", "gptq") != "gptq_v2"
    weights: dict[str, Tensor] = {}
    packed: dict[str, PackedMatrix] = {}
    with ExitStack() as stack:
        places = {
            name: file
            for path in sorted(folder.glob("*.safetensors"))
            for file in [stack.enter_context(safe_open(path, framework="pt"))]
            for name in file.keys()  # noqa: SIM118 - it is no mapping
        }
        for module, name in _modules(places, method):
            if module is None:
                weights[name] = places[name].get_tensor(name)
                continue
            parts = (part for part in PARTS[method] if f"{module}.{part}" in places)
            tensors = {part: places[f"{module}.{part}"].get_tensor(f"{module}.{part}") for part in parts}
            matrix = read_matrix(method, module, tensors, zeros_minus_one=minus_one)
            weights[f"{module}.weight"] = torch.from_numpy(matrix.dequantized())
            if (decoder := _DECODER.fullmatch(module)) is not None:
                packed[decoder[1]] = matrix
            elif module == HEAD:
                packed[HEAD] = matrix
    if not packed:
        raise ExportError(f"{where}: config.json says {method}, but no weight of the decoder is quantized")
    return weights, for_graph(packed)


def _modules(names: dict[str, Any], method: str) -> Iterator[tuple[str | None, str]]:
    """Yield each quantized module and the name of its codes, and (None, name) for other tensors."""
    quantized = {name.rpartition(".")[0] for name in names if name.rpartition(".")[2] == WEIGHT[method]}
    for name in names:
        module, _, part = name.rpartition(".")
        if module not in quantized or part not in PARTS[method]:
            yield None, name
        elif part == WEIGHT[method]:
            yield module, name
