"""Qwen2.5-VL and Qwen3-VL in the registry of backbones, and how their first checkpoint is made."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from edge_runtime.bundle.verification import file_sha256
from edge_runtime.errors import first_line
from train.models.chat_template import plain
from train.models.checkpoint import save_checkpoint
from train.models.qwen.model import WHOLE, QwenConfig, QwenModel, qwen_stream_format, take_apart
from train.models.qwen.vision import QwenVision, tower_weights
from train.models.registry import OUT, Backbone, BackboneError, known_fields
from train.models.tower_file import TOWER


def build(config: dict[str, Any], folder: Path) -> QwenModel:
    vision = QwenVision.from_record(config["vision"], config["model"], folder)
    with no_init_weights():  # random numbers for billions of weights take minutes
        return QwenModel(config["family"], QwenConfig(**known_fields(QwenConfig, config["model"])), vision)


@click.command("qwen")
@OUT
@click.option("--from", "source", required=True, help="Hub name or folder of a Qwen2.5-VL or Qwen3-VL.")
@click.option(
    "--picture",
    type=(int, int),
    default=(224, 224),
    show_default=True,
    help="Height and width of a frame, multiples of 28 (Qwen2.5-VL) or 32 (Qwen3-VL).",
)
def init_qwen(out: Path, source: str, picture: tuple[int, int]) -> None:
    """Start from Qwen2.5-VL or Qwen3-VL, with the decision tokens added."""
    make_qwen(out, source, picture)
    click.echo(str(out))


def make_qwen(out: Path, source: str, picture: tuple[int, int]) -> None:
    """Write a first checkpoint from a hub name or a folder, its vision tower beside it.

    ``picture``: height and width every frame is letterboxed to. Raises BackboneError when ``source`` can't
    be read or is another kind of model.
    """
    try:
        family = AutoConfig.from_pretrained(source).model_type
        if family not in WHOLE:
            raise BackboneError(f"{source}: is of type {family}, expected one of {', '.join(WHOLE)}")
        whole = WHOLE[family].from_pretrained(source, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
        processor = Qwen2VLImageProcessorPil.from_pretrained(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:  # a checkpoint replaces `out` whole
            mean, std = tuple(processor.image_mean), tuple(processor.image_std)
            tower = save_tower(whole, Path(folder), picture, mean, std)
            model = take_apart(whole, tokenizer, picture, replace(tower, file=out / TOWER))
            stream_format = qwen_stream_format(model.frame_tokens)
            save_checkpoint(out, model, tokenizer, stream_format, [], {"base": source}, {})
            os.replace(tower.file, out / TOWER)
    except BackboneError:
        raise
    except (OSError, ValueError) as error:
        raise BackboneError(f"{source}: {first_line(error)}") from error


def save_tower(
    whole: PreTrainedModel,
    folder: Path,
    picture: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> QwenVision:
    """Write the frozen vision tower of a transformers model into ``folder``; returns its description."""
    path = folder / TOWER
    save_file(tower_weights(whole.model.visual), path, metadata={"format": "pt"})
    config = json.dumps(plain(whole.model.visual.config))
    return QwenVision(path, file_sha256(path), config, mean, std, picture)


BACKBONE = Backbone(tuple(WHOLE), build, init_qwen, "export.families.qwen:QwenFamily")
