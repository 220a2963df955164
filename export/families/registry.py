"""Which family a model belongs to: ours, and those of installed packages.

A package adds one with an entry point of the group ``streampro_edge.export_families``, named as the
checkpoint's ``family``, which gives a :class:`export.families.base.Family`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from export.errors import ExportError
from export.families.base import Family
from export.families.compact import CompactFamily
from export.families.qwen import QwenFamily
from export.validation.reference import Reference
from train.models.base import StreamModel

GROUP = "streampro_edge.export_families"
FAMILIES: dict[str, type[Family[Any]]] = {
    "compact": CompactFamily,
    "qwen2_5_vl": QwenFamily,
    "qwen3_vl": QwenFamily,
}


def family_of(model: StreamModel) -> Family[Any]:
    """Return the family of ``model``. Raises ExportError for a family that has no graphs."""
    if model.family in FAMILIES:
        return FAMILIES[model.family]()
    others = {point.name: point for point in entry_points(group=GROUP)}
    if model.family not in others:
        known = ", ".join([*FAMILIES, *others])
        raise ExportError(f"family {model.family} cannot be exported; choose one of {known}")
    family: Family[Any] = others[model.family].load()()
    return family


def reference_of(model: StreamModel, backbone: nn.Module) -> Callable[[int], Reference]:
    """Return what opens a stream of ``model`` in PyTorch, given the id of the image token."""
    return partial(family_of(model).reference, model, backbone)


def open_backbone(model: StreamModel) -> nn.Module:
    """Load the frozen vision network of ``model``. Raises ExportError when that fails."""
    try:
        return family_of(model).open_backbone(model)
    except (ImportError, OSError, ValueError) as error:
        raise ExportError(str(error)) from error
