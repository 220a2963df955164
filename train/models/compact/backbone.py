"""The compact family in the registry of backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.models.compact.model import CompactConfig, CompactModel
from train.models.registry import Backbone, known_fields


def build(config: dict[str, Any], folder: Path) -> CompactModel:
    return CompactModel(CompactConfig(**known_fields(CompactConfig, config["model"])))


BACKBONE = Backbone((CompactModel.family,), build, exporter="export.families.compact:EXPORTER")
