"""Tiny checkpoints quantized by their authors: dense weights, rewritten in one of the public layouts.

Written by the formats' definitions, code by code, and by nothing that the import uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GROUP = 32
_DECODER = re.compile(r"(.*layers\.\d+\.(?:self_attn|mlp)\.\w+_proj)\.weight")
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column of eight that each nibble of a word holds, the lowest first."""


def rounded(weight: Tensor, symmetric: bool, dtype: torch.dtype) -> tuple[np.ndarray, Tensor, np.ndarray]:
    """Codes [out, in], scales [out, groups] in ``dtype``, zeros [out, groups], by rounding to nearest."""
    blocks = weight.float().reshape(len(weight), -1, GROUP)
    low, high = blocks.amin(-1), blocks.amax(-1)
    if symmetric:
        scales = (blocks.abs().amax(-1) / 7).to(dtype)
        zeros = torch.full_like(low, 8)
    else:
        scales = ((high - low) / 15).to(dtype)
        zeros = (-low / scales.float()).round().clamp(1, 15)
    codes = (blocks / scales.float()[..., None] + zeros[..., None]).round().clamp(0, 15)
    return codes.reshape(weight.shape).numpy().astype(int), scales, zeros.numpy().astype(int)


def words(codes: np.ndarray, order: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """[rows, 8 n] -> int32 [rows, n]: nibble k of a word is column ``order[k]`` of its eight."""
    eights = codes.reshape(len(codes), -1, 8).astype(np.uint32)
    packed = sum(eights[..., column] << np.uint32(4 * k) for k, column in enumerate(order))
    return torch.from_numpy(np.asarray(packed, np.uint32).view(np.int32).copy())


def compressed_tensors(codes: np.ndarray, scales: Tensor, zeros: np.ndarray) -> dict[str, Tensor]:
    made = {
        "weight_packed": words(codes),
        "weight_scale": scales,
        "weight_shape": torch.tensor(codes.shape, dtype=torch.int64),
    }
    if (zeros != 8).any():
        made["weight_zero_point"] = words(zeros.T.copy()).T.contiguous()
    return made


def awq(codes: np.ndarray, scales: Tensor, zeros: np.ndarray) -> dict[str, Tensor]:
    turned = [words(part.T.copy(), _AWQ_ORDER) for part in (codes, zeros)]
    return {"qweight": turned[0], "qzeros": turned[1], "scales": scales.T.contiguous()}


def gptq(codes: np.ndarray, scales: Tensor, zeros: np.ndarray) -> dict[str, Tensor]:
    return {
        "qweight": words(codes).T.contiguous(),
        "qzeros": words((zeros.T - 1) & 15),
        "scales": scales.T.contiguous(),
        "g_idx": torch.arange(codes.shape[1], dtype=torch.int32) // GROUP,
    }


def _ct_config(symmetric: bool) -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": GROUP}
    group = {"targets": ["Linear"], "weights": weights | {"actorder": None}, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*visual.*"],
        "quantization_status": "compressed",
    }


Layout = tuple[Callable[..., dict[str, Tensor]], bool, torch.dtype, dict[str, Any]]
LAYOUTS: dict[str, Layout] = {
    "compressed-tensors": (compressed_tensors, True, torch.bfloat16, _ct_config(True)),
    "compressed-tensors-zeros": (compressed_tensors, False, torch.bfloat16, _ct_config(False)),
    "awq": (
        awq,
        False,
        torch.float16,
        {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"},
    ),
    "gptq": (
        gptq,
        True,
        torch.float16,
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False},
    ),
}


def quantize_folder(folder: Path, layout: str) -> dict[str, Tensor]:
    """Rewrite ``folder`` in place; returns the decoder's weights that its codes stand for, by name."""
    write, symmetric, dtype, config = LAYOUTS[layout]
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    stands_for: dict[str, Tensor] = {}
    for name in list(tensors):
        if "vis" in name or (match := _DECODER.fullmatch(name)) is None:
            continue
        codes, scales, zeros = rounded(tensors.pop(name), symmetric, dtype)
        spread = [np.repeat(part, GROUP, axis=1) for part in (zeros, scales.float().numpy())]
        stands_for[name] = torch.from_numpy(((codes - spread[0]) * spread[1]).astype(np.float32))
        tensors |= {f"{match[1]}.{part}": tensor for part, tensor in write(codes, scales, zeros).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    change_config(folder, quantization_config=config)
    return stands_for


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
