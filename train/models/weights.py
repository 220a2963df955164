"""State dicts in safetensors files: one, or several with an index when they are large."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file
from torch import Tensor

SHARD_BYTES = 5_000_000_000
INDEX = "model.safetensors.index.json"


def save_weights(folder: Path, weights: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> None:
    """Write ``model.safetensors``, or numbered parts of at most ``shard_bytes`` and their index."""
    plan = split_torch_state_dict_into_shards(
        dict(weights), filename_pattern="model{suffix}.safetensors", max_shard_size=shard_bytes
    )
    for name, tensors in plan.filename_to_tensors.items():
        part = {key: weights[key].detach().cpu().contiguous() for key in tensors}
        save_file(part, folder / name, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights. Raises FileNotFoundError, naming the file, when one is missing,
    and ValueError for an index that names anything but files beside it.
    """
    index = folder / INDEX
    if not index.is_file():
        names = ["model.safetensors"]
    else:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index}: {name} is not a file beside it")
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: {name} is missing")
    return [folder / name for name in names]


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder. Raises as :func:`weight_files`, and SafetensorError for a damaged file."""
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        weights |= load_file(path)
    return weights


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """One hash of names, types, shapes and values, whatever file they came from and in which order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
