"""A checkpoint: a folder with weights, tokenizer and everything needed to know what they mean.

``model.safetensors`` (state dict, the tied output matrix left out), ``config.json`` and ``tokenizer.json``.
Training writes it, export reads it; nothing in it is executable.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from edge_runtime.errors import BundleError
from edge_runtime.protocol import Protocol
from train.model.compact import CompactConfig, CompactModel
from train.model.lite0 import LITE0_SHA256

FORMAT_VERSION = 1
_TIED = "decoder.lm_head.weight"


class CheckpointError(BundleError, ValueError):
    """A checkpoint folder can't be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; ``model`` is in eval mode, ``config`` is config.json as written."""

    model: CompactModel
    tokenizer: Tokenizer
    protocol: Protocol
    config: dict[str, Any]


def save_checkpoint(
    folder: Path,
    model: CompactModel,
    tokenizer: Tokenizer,
    protocol: Protocol,
    tasks: Sequence[str],
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write the folder; an older one of that name is replaced only once the new one is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if k != _TIED}
    save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(temporary / "tokenizer.json"))
    config = {
        "family": "compact",
        "format_version": FORMAT_VERSION,
        "model": model.config.to_dict(),
        "protocol": protocol.to_dict(),
        "tasks": list(tasks),
        "recipe": dict(recipe),
        "metrics": dict(metrics),
        "vision": {"name": "efficientnet-lite0", "sha256": LITE0_SHA256},
    }
    (temporary / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    _replace(temporary, folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder written by :func:`save_checkpoint`.

    Raises CheckpointError for a missing file, another family, a newer format or weights that do not fit.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; is this a checkpoint folder?")
    config = _read_config(folder / "config.json")
    try:
        known = {f.name for f in fields(CompactConfig)}
        model = CompactModel(CompactConfig(**{k: v for k, v in config["model"].items() if k in known}))
        protocol = Protocol.from_dict(config["protocol"])
        weights = load_file(folder / "model.safetensors")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        missing = [name for name in missing if name != _TIED]
        if missing or unexpected:
            raise CheckpointError(f"{folder}/model.safetensors: missing {missing}, not known {unexpected}")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json: {error.args[0]} is missing") from error
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    model.decoder.tie_weights()
    return Checkpoint(model.eval(), tokenizer, protocol, config)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from error
    if config.get("family") != "compact":
        raise CheckpointError(f"{path}: family is {config.get('family')!r}, expected 'compact'")
    if not isinstance(config.get("format_version"), int) or config["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {config.get('format_version')!r}, expected at most {FORMAT_VERSION}"
        )
    return config


def _replace(new: Path, folder: Path) -> None:
    """Put ``new`` in ``folder``'s place. A folder can't be replaced in one step: the old one steps aside."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
