"""Export of Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from export.errors import ExportError
from export.families.base import Exporter
from export.validation.qwen_reference import QwenBackbone
from export.vision.qwen import PIXEL_MEAN, PIXEL_STD, QwenVisionGraph
from train.models.qwen.model import QwenModel
from train.models.qwen.vision import QwenVision


class QwenExporter(Exporter[QwenModel]):
    def open_vision(self, model: QwenModel) -> nn.Module:
        assert isinstance(model.vision, QwenVision)
        model.vision.prepare(model.vision.file.parent)
        return QwenBackbone(model.vision)

    def decoder(self, model: QwenModel) -> nn.Module:
        return model

    def vision_graph(self, model: QwenModel, vision: nn.Module, dtype: torch.dtype) -> nn.Module:
        return QwenVisionGraph(model, vision.tower, dtype)

    def vision_precision(self, model: QwenModel, target: str, precision: str, wanted: str | None) -> str:
        """The tower stays floating point: its activations are no case for int8."""
        if precision != "int8":
            return precision
        if wanted is not None:
            raise ExportError(
                f"target {target} cannot do vision in int8 for family {model.family}, only fp32"
            )
        return "fp32"

    def names(self, model: QwenModel, vision: str) -> dict[str, Any]:
        config = model.config
        return {
            "format_version": 2,
            "family": model.family,
            "backbone": {"decoder": config.text["model_type"], "vision": config.vision["model_type"]},
            "license": "that of the base model",
        }

    def frame(self, model: QwenModel) -> dict[str, Any]:
        layers = len(model.projector) - 1
        return {
            "image_size": list(model.config.picture),
            "image_mean": PIXEL_MEAN,
            "image_std": PIXEL_STD,
            "visual_grid": list(model.config.grid),
            **({"deepstack": layers} if layers else {}),
        }


EXPORTER = QwenExporter()
