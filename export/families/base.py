"""What the export asks of a family of backbones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from train.models.base import StreamModel

M = TypeVar("M", bound=StreamModel)


class Exporter(ABC, Generic[M]):
    """One for each kind of backbone; it is stateless."""

    @abstractmethod
    def open_vision(self, model: M) -> nn.Module:
        """The frozen vision network in front of ``model``. Raises ImportError, OSError or ValueError when its
        weights are not there, or not the ones the model was trained with.
        """

    @abstractmethod
    def decoder(self, model: M) -> nn.Module:
        """What :class:`export.decoder.graph.DecoderGraph` takes."""

    @abstractmethod
    def vision_graph(self, model: M, vision: nn.Module, dtype: torch.dtype) -> nn.Module:
        """``pixels`` to ``tokens``, for :func:`export.vision.compact.export_vision`."""

    def vision_precision(self, model: M, target: str, precision: str, wanted: str | None) -> str:
        """Precision of the vision graph; ``precision``: what the target would choose, ``wanted``: the user.

        Raises ExportError for a precision that the vision network can't have.
        """
        return precision

    @abstractmethod
    def names(self, model: M, vision: str) -> dict[str, Any]:
        """Family, parts and format of a bundle. ``vision``: name of a compact model's backbone."""

    @abstractmethod
    def frame(self, model: M) -> dict[str, Any]:
        """The part of the section ``model`` about the frames it sees."""
