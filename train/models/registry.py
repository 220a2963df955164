"""Which model a checkpoint's ``family`` names, and how its ``config.json`` becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers.initialization import no_init_weights

from train.models.base import StreamModel
from train.models.compact.model import CompactConfig, CompactModel
from train.models.qwen.model import QWEN2_5, QWEN3, QwenConfig, QwenModel
from train.models.qwen.vision import QwenVision

Build = Callable[[dict[str, Any], Path], StreamModel]
"""config.json and its folder -> the model, its weights still to be loaded. Raises KeyError, TypeError or
ValueError for a configuration that does not fit."""


def _compact(config: dict[str, Any], folder: Path) -> CompactModel:
    return CompactModel(CompactConfig(**_known(CompactConfig, config["model"])))


def _qwen(config: dict[str, Any], folder: Path) -> QwenModel:
    vision = QwenVision.from_record(config["vision"], config["model"], folder)
    with no_init_weights():  # random numbers for billions of weights take minutes
        return QwenModel(config["family"], QwenConfig(**_known(QwenConfig, config["model"])), vision)


FAMILIES: dict[str, Build] = {CompactModel.family: _compact, QWEN2_5: _qwen, QWEN3: _qwen}


def _known(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    """Keys that a later version added are ignored (formats.md)."""
    names = {f.name for f in fields(cls)}
    return {key: value for key, value in data.items() if key in names}
