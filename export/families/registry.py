"""The exporter of a model: a backbone names it where it is registered (:mod:`train.models.registry`)."""

from __future__ import annotations

from typing import Any

from torch import nn

from export.errors import ExportError
from export.families.base import Exporter
from train.config.registry import load_object
from train.models.base import StreamModel
from train.models.registry import backbone_of


def exporter_of(model: StreamModel) -> Exporter[Any]:
    """Raises ExportError for a family that can't be exported."""
    path = backbone_of(model.family).exporter
    if path is None:
        raise ExportError(f"family {model.family} cannot be exported: its backbone names no exporter")
    return load_object(path)  # type: ignore[no-any-return]


def open_vision(model: StreamModel) -> nn.Module:
    """The frozen vision network in front of ``model``. Raises ExportError when its weights are not there, or
    not the ones the model was trained with; also for a family that can't be exported.
    """
    exporter = exporter_of(model)
    try:
        return exporter.open_vision(model)
    except (ImportError, OSError, ValueError) as error:
        raise ExportError(str(error)) from error
