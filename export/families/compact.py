"""The compact family: EfficientNet-Lite0 (or a detector), a projector and a Llama decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from export.decoder.deferred import DeferredModel
from export.decoder.parts import DecoderParts, llama_parts
from export.families.base import Family
from export.families.reference.compact import CompactReference
from export.families.slots import SlotFamily
from export.validation.reference import Reference
from export.vision.base import export_vision
from export.vision.compact import CompactVisionGraph
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, load_lite0
from train.models.compact.model import CompactModel


class CompactFamily(Family[CompactModel]):
    """See :class:`export.families.base.Family`."""

    vision_precisions = ("fp32", "fp16", "int8")

    def for_model(self, model: CompactModel) -> Family[CompactModel]:
        return SlotFamily() if model.config.slots else self

    def open_backbone(self, model: CompactModel) -> nn.Module:
        return load_lite0()

    def decoder_parts(self, model: CompactModel) -> DecoderParts:
        return llama_parts(model.decoder)

    def vision_graph(self, model: CompactModel, backbone: nn.Module, dtype: torch.dtype) -> DeferredModel:
        graph = CompactVisionGraph(backbone, model.projector, dtype)
        return export_vision(graph, (IMAGE_SIZE, IMAGE_SIZE))

    def names(self, model: CompactModel, vision: str) -> dict[str, Any]:
        parts = {"decoder": "llama-scratch", "vision": vision}
        return {"format_version": 1, "family": model.family, "backbone": parts, "license": "Apache-2.0"}

    def image(self, model: CompactModel) -> dict[str, Any]:
        return {
            "image_size": [IMAGE_SIZE, IMAGE_SIZE],
            "image_mean": IMAGE_MEAN,
            "image_std": IMAGE_STD,
        }

    def reference(self, model: CompactModel, backbone: nn.Module, image_id: int) -> Reference:
        return CompactReference(model, backbone, image_id)
