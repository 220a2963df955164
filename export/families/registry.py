"""The exporter of a model: a backbone names it where it is registered (:mod:`train.models.registry`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from export.errors import ExportError
from export.families.base import Family
from export.validation.reference import Reference
from train.config.registry import load_object
from train.models.base import StreamModel
from train.models.registry import backbone_of


def family_of(model: StreamModel) -> Family[Any]:
    """Return the family of ``model``. Raises ExportError for a family that can't be exported."""
    return family_named(model.family).for_model(model)


def family_named(name: str) -> Family[Any]:
    """Return the family ``name``. Raises ExportError for a family that can't be exported."""
    path = backbone_of(name).exporter
    if path is None:
        raise ExportError(f"family {name} cannot be exported: its backbone names no exporter")
    family: Family[Any] = load_object(path)()
    return family


def reference_of(model: StreamModel, backbone: nn.Module) -> Callable[[int], Reference]:
    """Return what opens a stream of ``model`` in PyTorch, given the id of the image token."""
    return partial(family_of(model).reference, model, backbone)


def open_backbone(model: StreamModel) -> nn.Module:
    """Load the frozen vision network of ``model``. Raises ExportError when that fails."""
    family = family_of(model)
    try:
        return family.open_backbone(model)
    except (ImportError, OSError, ValueError) as error:
        raise ExportError(str(error)) from error
