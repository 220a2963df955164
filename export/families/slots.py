"""The compact family when its frozen vision is a detector: object slots, a projector and a Llama decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from export.decoder.deferred import DeferredModel
from export.decoder.parts import DecoderParts, llama_parts
from export.families.base import Family
from export.families.reference.slots import Detector, SlotReference
from export.validation.reference import Reference
from export.vision.slots import slot_graph
from train.models.compact.model import CompactModel
from train.models.compact.slots import SlotVision
from train.models.perception.nanodet import SIZE
from train.models.perception.tracker import TrackerConfig
from train.models.perception.vision import SlotHead


class SlotFamily(Family[CompactModel]):
    """See :class:`export.families.base.Family`."""

    vision_precisions = ("fp32", "fp16")

    def open_backbone(self, model: CompactModel) -> Detector:
        vision = model.vision
        assert isinstance(vision, SlotVision)
        vision.prepare(Path())
        assert vision.detector is not None  # or prepare had raised
        return Detector(vision.detector)

    def decoder_parts(self, model: CompactModel) -> DecoderParts:
        return llama_parts(model.decoder)

    def vision_graph(self, model: CompactModel, backbone: nn.Module, dtype: torch.dtype) -> DeferredModel:
        assert isinstance(backbone, Detector)
        head = SlotHead(model.projector, TrackerConfig(slots=model.config.slots))
        return DeferredModel(slot_graph(onnx.load(backbone.file), head, dtype))

    def names(self, model: CompactModel, vision: str) -> dict[str, Any]:
        """Return them with the hash of the detector, which tells detectors apart."""
        record = model.vision.record()
        parts = {"decoder": "llama-scratch", "vision": record["name"], "detector_sha256": record["sha256"]}
        return {"format_version": 1, "family": model.family, "backbone": parts, "license": "Apache-2.0"}

    def image(self, model: CompactModel) -> dict[str, Any]:
        """Return a mean of 0: the graph itself normalises, and finds the borders by their black."""
        return {"image_size": [SIZE, SIZE], "image_mean": 0.0, "image_std": 1.0}

    def reference(self, model: CompactModel, backbone: nn.Module, image_id: int) -> Reference:
        assert isinstance(backbone, Detector)
        return SlotReference(model, backbone, image_id)
