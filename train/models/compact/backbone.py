"""The compact family in the registry of backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.models.compact.model import CompactConfig, CompactModel
from train.models.compact.slots import SlotVision
from train.models.registry import Backbone, known_fields


def build(config: dict[str, Any], folder: Path) -> CompactModel:
    model = CompactModel(CompactConfig(**known_fields(CompactConfig, config["model"])))
    if model.config.slots:
        model.vision = SlotVision.beside(folder, (config.get("vision") or {}).get("sha256"))
    return model


BACKBONE = Backbone((CompactModel.family,), build, exporter="export.families.compact:CompactFamily")
