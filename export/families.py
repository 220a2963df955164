"""What differs between families of models when they are exported: vision, sizes, and what they are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import LlamaForCausalLM

from export.errors import ExportError
from export.validation.qwen_reference import QwenBackbone
from export.vision.compact import VisionGraph
from export.vision.qwen import PIXEL_MEAN, PIXEL_STD, QwenVisionGraph
from train.models.base import StreamModel
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, load_lite0
from train.models.compact.model import CompactModel
from train.models.qwen.model import QwenModel
from train.models.qwen.vision import QwenVision


def open_backbone(model: StreamModel) -> nn.Module:
    """The frozen vision network in front of ``model``. Raises ExportError when its weights are not there, or
    not the ones the model was trained with; also for a family that has no graphs.
    """
    try:
        if isinstance(model, QwenModel):
            assert isinstance(model.vision, QwenVision)
            model.vision.prepare(model.vision.file.parent)
            return QwenBackbone(model.vision)
        if isinstance(model, CompactModel):
            return load_lite0()
    except (ImportError, OSError, ValueError) as error:
        raise ExportError(str(error)) from error
    raise ExportError(f"family {model.family} cannot be exported, only compact, qwen2_5_vl and qwen3_vl")


def decoder_of(model: StreamModel) -> LlamaForCausalLM | QwenModel:
    """What :class:`export.decoder.graph.DecoderGraph` takes."""
    return model if isinstance(model, QwenModel) else model.decoder


def vision_graph(model: StreamModel, backbone: nn.Module, dtype: torch.dtype) -> nn.Module:
    """``pixels`` to ``tokens``, for :func:`export.vision.compact.export_vision`."""
    if isinstance(model, QwenModel):
        return QwenVisionGraph(model, backbone.tower, dtype)
    return VisionGraph(backbone, model.projector, dtype)


def check_vision(model: StreamModel, target: str, precision: str, wanted: str | None) -> str:
    """Precision of the vision graph; ``precision``: what the target would choose, ``wanted``: the user.

    Raises ExportError: the tower of a Qwen model stays floating point, its activations are no case for int8.
    """
    if not isinstance(model, QwenModel) or precision != "int8":
        return precision
    if wanted is not None:
        raise ExportError(f"target {target} cannot do vision in int8 for family {model.family}, only fp32")
    return "fp32"


def names(model: StreamModel, vision: str) -> dict[str, Any]:
    """Family, parts and format of a bundle. ``vision``: name of a compact model's backbone."""
    if not isinstance(model, QwenModel):
        parts = {"decoder": "llama-scratch", "vision": vision}
        return {"format_version": 1, "family": model.family, "backbone": parts, "license": "Apache-2.0"}
    return {
        "format_version": 2,
        "family": model.family,
        "backbone": {"decoder": model.config.text["model_type"], "vision": model.config.vision["model_type"]},
        "license": "that of the base model",
    }


def picture(model: StreamModel) -> dict[str, Any]:
    """The part of the section ``model`` about what it looks at."""
    if not isinstance(model, QwenModel):
        return {
            "image_size": [IMAGE_SIZE, IMAGE_SIZE],
            "image_mean": IMAGE_MEAN,
            "image_std": IMAGE_STD,
        }
    layers = len(model.projector) - 1
    return {
        "image_size": list(model.config.picture),
        "image_mean": PIXEL_MEAN,
        "image_std": PIXEL_STD,
        "visual_grid": list(model.config.grid),
        **({"deepstack": layers} if layers else {}),
    }
