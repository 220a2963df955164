"""A checkpoint: a folder with weights, tokenizer and everything needed to know what they mean.

``model.safetensors`` (state dict, the tied output matrix left out; in numbered parts with an index when it is
large), ``config.json`` and ``tokenizer.json``. With LoRA ``adapter.safetensors`` takes the place of the
weights, and ``config.json`` names the base checkpoint they belong to. Training writes it, export reads it;
nothing in it is executable.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from edge_runtime.atomic_write import replace_folder
from edge_runtime.bundle.knowledge import read_knowledge as read_record
from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import BundleError, ConfigError
from train.models.base import StreamModel
from train.models.lora import (
    Adapters,
    adapter_weights,
    add_adapters,
    decoder_sha256,
    frozen_names,
    merge_adapters,
)
from train.models.registry import backbone_of
from train.models.weights import INDEX, load_weights, save_weights

FORMAT_VERSION = 1
WEIGHTS, ADAPTER = "model.safetensors", "adapter.safetensors"
KNOWLEDGE = "knowledge.json"
"""What the model knows, as a bundle says it (docs/formats.md); beside training data as well."""
_TIED = "decoder.lm_head.weight"


class CheckpointError(ConfigError, ValueError):
    """A checkpoint folder can't be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; ``model`` is in eval mode, ``config`` is config.json as written.

    ``knowledge``: what it knows; None when it does not say.
    """

    model: StreamModel
    tokenizer: Tokenizer
    stream_format: StreamFormat
    config: dict[str, Any]
    knowledge: dict[str, Any] | None = None


def save_checkpoint(
    folder: Path,
    model: StreamModel,
    tokenizer: Tokenizer,
    stream_format: StreamFormat,
    tasks: Sequence[str],
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
    knowledge: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder; an older one of that name is replaced only once the new one is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    config = {
        "family": model.family,
        "format_version": FORMAT_VERSION,
        "model": model.config.to_dict(),
        "protocol": stream_format.to_dict(),
        "tasks": list(tasks),
        "recipe": dict(recipe),
        "metrics": dict(metrics),
        "vision": model.vision.record(),
    }
    if model.adapters is None:
        save_weights(temporary, {k: v for k, v in model.state_dict().items() if k != _TIED})
    else:
        config["lora"] = model.adapters.to_dict()
        weights = {k: v.detach().cpu().contiguous() for k, v in adapter_weights(model).items()}
        save_file(weights, temporary / ADAPTER, metadata={"format": "pt"})
    tokenizer.save(str(temporary / "tokenizer.json"))
    model.vision.save(temporary)
    if knowledge is not None:
        (temporary / KNOWLEDGE).write_text(json.dumps(knowledge, indent=1) + "\n", encoding="utf-8")
    (temporary / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    replace_folder(temporary, folder)


def load_checkpoint(folder: Path, *, merge: bool = True) -> Checkpoint:
    """Read a folder written by :func:`save_checkpoint`.

    A checkpoint of LoRA adapters becomes a plain model again, unless ``merge`` is false.
    Raises CheckpointError for a missing file, an unknown family, a newer format, weights that do not fit, and
    a base that is not there or not the one the adapters were trained on.
    """
    folder = Path(folder)
    config = _read_config(folder)
    weights = WEIGHTS if "lora" not in config else ADAPTER
    if weights == WEIGHTS and (folder / INDEX).is_file():
        weights = INDEX
    for name in (weights, "tokenizer.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; is this a checkpoint folder?")
    try:
        stream_format = StreamFormat.from_dict(config["protocol"])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if "lora" not in config:
            build = backbone_of(config["family"]).build
            assert build is not None  # it has families
            model = build(config, folder)
            loaded = load_weights(folder)
            missing, unexpected = model.load_state_dict(loaded, strict=False, assign=True)
            missing = [name for name in missing if name != _TIED]
        else:
            adapters = Adapters.from_dict(config["lora"])
            model = _load_base(folder, adapters)
            add_adapters(model, adapters)
            loaded = load_file(folder / ADAPTER)
            missing, unexpected = model.load_state_dict(loaded, strict=False, assign=True)
            missing = [name for name in missing if name not in frozen_names(model)]
        if missing or unexpected:
            raise CheckpointError(f"{folder}/{weights}: missing {missing}, not known {unexpected}")
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json: {error.args[0]} is missing") from error
    except (SafetensorError, RuntimeError, TypeError, ValueError, OSError, ImportError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except Exception as error:  # the tokenizers library raises nothing more exact
        if type(error) is not Exception:
            raise
        raise CheckpointError(f"{folder}/tokenizer.json: {error}") from error
    model.decoder.tie_weights()
    if model.stored_as_fp16:
        model.float()
    if merge and model.adapters is not None:
        merge_adapters(model)
    return Checkpoint(model.eval(), tokenizer, stream_format, config, read_knowledge(folder))


def read_knowledge(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint, or training data in ``folder``, says that a model knows; None when it says nothing.

    Raises CheckpointError for a file that cannot be read.
    """
    path = folder / KNOWLEDGE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        read_record({"knowledge": found}, str(path))
    except (OSError, ValueError, BundleError) as error:
        raise CheckpointError(f"{path}: {error}; write it again or remove it") from error
    return dict(found)


def _load_base(folder: Path, adapters: Adapters) -> StreamModel:
    base = Path(adapters.base.folder)
    if not base.is_dir():
        raise CheckpointError(
            f"{folder}: its adapters belong to {base}, which is not there; make or copy that base (for smol: "
            "make smol), and start where its path is right"
        )
    model = load_checkpoint(base).model
    if (digest := decoder_sha256(model)) != adapters.base.sha256:
        raise CheckpointError(
            f"{base}: sha256 of its decoder is {digest}, the adapters in {folder} were trained on "
            f"{adapters.base.sha256}; make that base again"
        )
    return model


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: config.json is missing; is this a checkpoint folder?")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from error
    try:
        backbone_of(config.get("family") if isinstance(config, dict) else config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(config.get("format_version"), int) or config["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {config.get('format_version')!r}, expected at most {FORMAT_VERSION}"
        )
    return config
