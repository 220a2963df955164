"""A published Qwen-VL checkpoint as a model in memory, with its weights and its vocabulary as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from train.models.chat_template import plain
from train.models.published_weights import load_whole
from train.models.qwen.model import WHOLE, QwenConfig, QwenModel
from train.models.qwen.vision import QwenVision, without_mergers
from train.models.stored import open_stored


def open_whole(
    folder: Path, picture: tuple[int, int], used_vocab: int, weights: Mapping[str, Tensor] | None = None
) -> tuple[QwenModel, nn.Module]:
    """Open the model, and its vision tower without mergers; their large weights stay in the files.

    ``picture``: height and width of a frame. ``used_vocab``: tokens of the tokenizer; more rows of the
    embedding are padding. ``weights``: in place of the files. Raises OSError, RuntimeError or ValueError.
    """
    family = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
    whole: Any = (
        open_stored(WHOLE[family], folder) if weights is None else load_whole(WHOLE[family], folder, weights)
    )
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    vision_config = plain(whole.model.visual.config)
    config = QwenConfig(
        text=plain(whole.model.language_model.config),
        vision=vision_config,
        picture=picture,
        used_vocab=used_vocab,
        tied=whole.get_output_embeddings().weight is whole.get_input_embeddings().weight,
    )
    vision = QwenVision(folder, "", json.dumps(vision_config), mean, std, picture)
    model = QwenModel(family, config, vision, whole)  # it takes the mergers
    return model.eval(), without_mergers(whole.model.visual).eval()
