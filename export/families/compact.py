"""Export of the compact family."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from export.families.base import Exporter
from export.vision.compact import VisionGraph
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, load_lite0
from train.models.compact.model import CompactModel


class CompactExporter(Exporter[CompactModel]):
    def open_vision(self, model: CompactModel) -> nn.Module:
        return load_lite0()

    def decoder(self, model: CompactModel) -> nn.Module:
        return model.decoder

    def vision_graph(self, model: CompactModel, vision: nn.Module, dtype: torch.dtype) -> nn.Module:
        return VisionGraph(vision, model.projector, dtype)

    def names(self, model: CompactModel, vision: str) -> dict[str, Any]:
        parts = {"decoder": "llama-scratch", "vision": vision}
        return {"format_version": 1, "family": model.family, "backbone": parts, "license": "Apache-2.0"}

    def frame(self, model: CompactModel) -> dict[str, Any]:
        return {"image_size": [IMAGE_SIZE, IMAGE_SIZE], "image_mean": IMAGE_MEAN, "image_std": IMAGE_STD}


EXPORTER = CompactExporter()
