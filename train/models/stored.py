"""A published model whose large weights stay in their safetensors files until somebody computes with them.

The weights of linear layers and the table of token embeddings are nearly all of a model. They lie on the meta
device, and each module knows where its own are: an export reads them one at a time, and a forward pass reads
those of one layer at a time. Everything else (norms, biases, convolutions) is in memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key
from transformers.initialization import no_init_weights
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

KEEP_BYTES = 2 << 30
"""Weights in float32 that a forward pass keeps for the next one. A small model is read once."""


@dataclass(frozen=True)
class Stored:
    """A matrix in a safetensors file. The file is mapped while it is read, and no longer."""

    file: str
    name: str

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows ``start .. stop`` in float32."""
        with safe_open(self.file, framework="pt") as file:
            rows: Tensor = file.get_slice(self.name)[start:stop]
            return rows.float()

    def read(self) -> Tensor:
        """Return the matrix in float32."""
        with safe_open(self.file, framework="pt") as file:
            whole: Tensor = file.get_tensor(self.name)
            return whole.float()


@dataclass
class Room:
    """Bytes that may still be kept in memory."""

    left: int

    def take(self, weight: Tensor) -> bool:
        """Return whether ``weight`` may stay; it is counted then."""
        if weight.nbytes > self.left:
            return False
        self.left -= weight.nbytes
        return True


class StoredLinear(nn.Linear):
    """A linear layer that reads its weight when it computes."""

    stored: Stored
    room: Room
    kept: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.kept
        if weight is None:
            weight = self.stored.read()
            if self.room.take(weight):
                self.kept = weight
        return nn.functional.linear(x, weight, self.bias)


class StoredEmbedding(nn.Embedding):
    """A table of which only the rows that are asked for are read."""

    stored: Stored

    def forward(self, ids: Tensor) -> Tensor:
        known, places = ids.unique(return_inverse=True)
        if not len(known):
            return torch.zeros(*ids.shape, self.embedding_dim)
        with safe_open(self.stored.file, framework="pt") as file:
            table = file.get_slice(self.stored.name)
            rows = torch.cat([table[row : row + 1] for row in known.tolist()])
        return rows.float()[places]


def stored_of(module: nn.Module) -> Stored | None:
    """Return where the weight of ``module`` lies; None when it is in memory."""
    stored: Stored | None = getattr(module, "stored", None)
    return stored


def as_ordinary(module: nn.Module) -> None:
    """Let a layer compute with its own parameter again, so that it can be traced. It still knows where the
    weight lies.
    """
    if isinstance(module, StoredLinear):
        module.kept = None
        module.__class__ = nn.Linear  # type: ignore[assignment]


def weight_rows(module: Any, start: int, stop: int) -> Tensor:
    """Return rows of the weight of a linear layer or an embedding in float32, read when they are stored."""
    stored = stored_of(module)
    rows: Tensor = module.weight.detach()[start:stop].float() if stored is None else stored.rows(start, stop)
    return rows


def tied_head(embedding: nn.Embedding) -> nn.Linear:
    """Return an output layer over the table of an embedding, stored or in memory, which it shares."""
    rows, width = embedding.weight.shape
    head = nn.Linear(width, rows, bias=False, device="meta")
    head.weight = embedding.weight
    stored = stored_of(embedding)
    if stored is not None:
        _leave(head, stored, Room(KEEP_BYTES))
    return head


def _leave(linear: nn.Linear, stored: Stored, room: Room) -> None:
    """Let ``linear`` read its weight from ``stored``."""
    linear.__class__ = StoredLinear
    linear.stored, linear.room, linear.kept = stored, room, None  # type: ignore[assignment]


def open_stored(kind: type[PreTrainedModel], folder: Path, keep: int = KEEP_BYTES) -> Any:
    """Open a published model of the transformers class ``kind``. Its large weights stay in the files.

    ``keep``: bytes of weights that stay in memory after a forward pass. Raises OSError, RuntimeError,
    ValueError or SafetensorError for weights that are missing or cannot be read.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.dtype = torch.float32
    with no_init_weights(), init_empty_weights(include_buffers=False):
        whole: Any = kind(config)
    whole.tie_weights()
    places = _places(whole, folder)
    table, room = whole.get_input_embeddings(), Room(keep)
    for path, module in whole.named_modules():
        for name, _ in list(module.named_parameters(recurse=False)):
            stored = places[f"{path}.{name}"]
            if name == "weight" and type(module) is nn.Linear:
                _leave(module, stored, room)
            elif name == "weight" and module is table:
                module.__class__ = StoredEmbedding
                module.stored = stored
            else:
                setattr(module, name, nn.Parameter(stored.read().clone(), requires_grad=False))
    return whole.eval()


def _places(whole: Any, folder: Path) -> dict[str, Stored]:
    """Return where each parameter of ``whole`` lies. Names of older layouts are mapped by transformers."""
    shapes = {name: value.shape for name, value in whole.named_parameters(remove_duplicate=False)}
    mapping = get_model_conversion_mapping(whole)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    found: dict[str, Stored] = {}
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                target, _ = rename_source_key(
                    name, renamings, [], base_model_prefix=whole.base_model_prefix, meta_state_dict=shapes
                )
                if target not in shapes:
                    continue
                shape = file.get_slice(name).get_shape()
                if shape != list(shapes[target]):
                    raise ValueError(f"{name} is {shape}, config.json says {list(shapes[target])}")
                found[target] = Stored(str(path), name)
    for target, source in whole.all_tied_weights_keys.items():
        if source in found:
            found[target] = found[source]
    if missing := sorted(shapes.keys() - found.keys()):
        raise ValueError(f"{len(missing)} tensors are missing, {missing[0]} among them")
    return found


def _files(folder: Path) -> list[Path]:
    """Return the files of the checkpoint: those that its index names, or the only one."""
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / Path(name).name for name in sorted(set(names))]
