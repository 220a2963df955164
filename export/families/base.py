"""What the export needs to know of a family of models; each family is one module beside this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from edge_runtime.bundle.stream_format import StreamFormat
from export.decoder.deferred import DeferredModel
from export.decoder.parts import DecoderParts
from export.errors import ExportError
from export.validation.reference import Reference
from train.models.base import StreamModel

ModelT = TypeVar("ModelT", bound=StreamModel)
Weights = Mapping[str, Tensor] | None
"""By name, in place of those in a published model's files."""


class Family(ABC, Generic[ModelT]):
    """How the models of one family become graphs."""

    vision_precisions: tuple[str, ...]
    """Precisions that the vision graph can have."""

    def for_model(self, model: ModelT) -> Family[ModelT]:
        """Return the family that exports ``model``: this one, unless models of one name differ."""
        return self

    @abstractmethod
    def open_backbone(self, model: ModelT) -> nn.Module:
        """Load the frozen vision network in front of ``model``.

        Raises ImportError, OSError or ValueError for weights that are missing or not those of training.
        """

    @abstractmethod
    def decoder_parts(self, model: ModelT) -> DecoderParts:
        """Return the parts of the decoder. Raises ExportError for layers that the graph does not have."""

    @abstractmethod
    def vision_graph(self, model: ModelT, backbone: nn.Module, dtype: torch.dtype) -> DeferredModel:
        """Make the graph from pixels to visual tokens, computed in ``dtype``."""

    @abstractmethod
    def names(self, model: ModelT, vision: str) -> dict[str, Any]:
        """Return family, parts, license and format of a bundle. ``vision``: name of the backbone."""

    @abstractmethod
    def image(self, model: ModelT) -> dict[str, Any]:
        """Return the part of the manifest's section ``model`` about the frames it looks at."""

    @abstractmethod
    def reference(self, model: ModelT, backbone: nn.Module, image_id: int) -> Reference:
        """Open a stream in PyTorch, against which a bundle is compared."""

    def cell(self, folder: Path) -> int:
        """Return of how many pixels the sides of a published model's frame are multiples."""
        raise ExportError(f"{folder}: models of this family are trained here, not imported")

    def published_frame_tokens(self, folder: Path, frame: tuple[int, int]) -> int:
        """Return the visual tokens of a published model's frame of this height and width, by its config.json.

        Raises ExportError when the model cannot see such frames.
        """
        raise ExportError(f"{folder}: models of this family are trained here, not imported")

    def chat_format(self, folder: Path, frame: tuple[int, int]) -> StreamFormat:
        """Return a published model's own chat format, for frames of this height and width.

        Raises ExportError when its files do not fit together.
        """
        raise ExportError(f"{folder}: models of this family are trained here, not imported")

    def open_published(
        self, folder: Path, frame: tuple[int, int], used_vocab: int, weights: Weights = None
    ) -> tuple[ModelT, nn.Module]:
        """Load a published model, and its frozen vision network. ``used_vocab``: tokens of its tokenizer.
        ``weights``: in place of its files.

        Raises OSError, RuntimeError or ValueError for weights that can't be read.
        """
        raise ExportError(f"{folder}: models of this family are trained here, not imported")
