"""A published SmolVLM2 as a model in memory, with its weights and its vocabulary as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMForConditionalGeneration

from edge_runtime.bundle.stream_format import StreamFormat
from train.models.chat_template import plain
from train.models.published_weights import load_whole
from train.models.smolvlm.backbone import checked_format, read_frames
from train.models.smolvlm.model import SmolVLM, SmolVLMConfig, take_apart
from train.models.smolvlm.vision import SiglipVision
from train.models.stored import open_stored


def published_frame_tokens(folder: Path) -> int:
    """Return the visual tokens per frame, from config.json alone. Raises ValueError for odd sizes."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    sizes = SmolVLMConfig({}, plain(config.vision_config), config.scale_factor, used_vocab=0, tied=False)
    return sizes.frame_tokens


def published_format(folder: Path) -> StreamFormat:
    """Return the chat format of the model in ``folder``, before its weights are read.

    Raises BackboneError when its processor, tokenizer and config.json do not fit together.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    read_frames(str(folder), config.vision_config.image_size)
    return checked_format(str(folder), _tokenizer(folder), config)


def open_whole(folder: Path, weights: Mapping[str, Tensor] | None = None) -> tuple[SmolVLM, nn.Module]:
    """Open the model and its vision tower; their large weights stay in the files.

    ``weights``: in place of the files. Raises OSError, RuntimeError or ValueError.
    """
    whole: Any = (
        open_stored(SmolVLMForConditionalGeneration, folder)
        if weights is None
        else load_whole(SmolVLMForConditionalGeneration, folder, weights)
    )
    tower = whole.model.vision_model
    frames = read_frames(str(folder), tower.config.image_size)
    config = json.dumps(plain(tower.config))
    vision = SiglipVision(folder, "", config, frames.mean, frames.std, whole.config.scale_factor)
    return take_apart(whole, _tokenizer(folder), vision).eval(), tower.eval()


def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
