"""SmolVLM2: a SigLIP tower, a connector and a Llama decoder whose output matrix is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_runtime.bundle.published import CONFIG, default_frame, read_config
from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import first_line
from export.decoder.deferred import DeferredModel
from export.decoder.parts import DecoderParts
from export.errors import ExportError
from export.families.base import Family, Weights
from export.families.reference.smolvlm import SmolVLMBackbone, SmolVLMReference
from export.validation.reference import Reference
from export.vision.base import export_vision
from export.vision.smolvlm import PIXEL_MEAN, PIXEL_STD, SmolVLMVisionGraph
from train.models.registry import BackboneError
from train.models.smolvlm.model import SmolVLM
from train.models.smolvlm.published import open_whole, published_format, published_frame_tokens
from train.models.smolvlm.vision import SiglipVision


class SmolVLMFamily(Family[SmolVLM]):
    """See :class:`export.families.base.Family`."""

    vision_precisions = ("fp32", "fp16")

    def open_backbone(self, model: SmolVLM) -> nn.Module:
        assert isinstance(model.vision, SiglipVision)
        model.vision.prepare(model.vision.file.parent)
        return SmolVLMBackbone(model.vision)

    def decoder_parts(self, model: SmolVLM) -> DecoderParts:
        text: Any = model.decoder
        head: Any = model.embedding if model.lm_head is None else model.lm_head
        return DecoderParts(text.config, list(text.layers), text.norm, head)

    def vision_graph(self, model: SmolVLM, backbone: Any, dtype: torch.dtype) -> DeferredModel:
        return export_vision(SmolVLMVisionGraph(model, backbone.tower, dtype), model.vision.picture)

    def names(self, model: SmolVLM, vision: str) -> dict[str, Any]:
        parts = {"decoder": model.config.text["model_type"], "vision": model.config.vision["model_type"]}
        return {
            "format_version": 1,
            "family": model.family,
            "backbone": parts,
            "license": "that of the base model",
        }

    def image(self, model: SmolVLM) -> dict[str, Any]:
        return {
            "image_size": list(model.vision.picture),
            "image_mean": PIXEL_MEAN,
            "image_std": PIXEL_STD,
        }

    def reference(self, model: SmolVLM, backbone: nn.Module, image_id: int) -> Reference:
        return SmolVLMReference(model, backbone, image_id)

    def cell(self, folder: Path) -> int:
        return 1  # nothing is rounded: published_frame_tokens takes one size only

    def published_frame_tokens(self, folder: Path, frame: tuple[int, int]) -> int:
        only = default_frame(read_config(folder / CONFIG))
        height, width = frame
        if f"{width}x{height}" != only:
            raise ExportError(
                f"--frame of {width}x{height} pixels: this model sees frames of {only} alone; give --frame "
                f"{only}, or leave --frame out"
            )
        try:
            return published_frame_tokens(folder)
        except ValueError as error:
            raise ExportError(f"{folder / CONFIG}: {error}") from error

    def chat_format(self, folder: Path, frame: tuple[int, int]) -> StreamFormat:
        self.published_frame_tokens(folder, frame)
        try:
            return published_format(folder)
        except BackboneError as error:
            raise ExportError(str(error)) from error
        except (OSError, ValueError) as error:  # what transformers raises for a file that it cannot read
            raise ExportError(f"{folder}: {first_line(error)}") from error

    def open_published(
        self, folder: Path, frame: tuple[int, int], used_vocab: int, weights: Weights = None
    ) -> tuple[SmolVLM, nn.Module]:
        model, tower = open_whole(folder, weights)
        assert isinstance(model.vision, SiglipVision)
        return model, SmolVLMBackbone(model.vision, tower)
