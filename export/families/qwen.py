"""Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_runtime.bundle.published import CONFIG, read_config
from edge_runtime.bundle.stream_format import StreamFormat
from export.decoder.deferred import DeferredModel
from export.decoder.parts import DecoderParts
from export.errors import ExportError
from export.families.base import Family, Weights
from export.families.reference.qwen import QwenBackbone, QwenReference
from export.validation.reference import Reference
from export.vision.base import export_vision
from export.vision.qwen import PIXEL_MEAN, PIXEL_STD, QwenVisionGraph
from train.models.qwen.model import QwenModel, qwen_stream_format
from train.models.qwen.published import open_whole
from train.models.qwen.vision import QwenVision


class QwenFamily(Family[QwenModel]):
    """See :class:`export.families.base.Family`."""

    vision_precisions = ("fp32", "fp16")
    """No int8: the activations of the tower are no case for it."""

    def open_backbone(self, model: QwenModel) -> nn.Module:
        assert isinstance(model.vision, QwenVision)
        model.vision.prepare(model.vision.file.parent)
        return QwenBackbone(model.vision)

    def decoder_parts(self, model: QwenModel) -> DecoderParts:
        text: Any = model.decoder
        if "sliding_attention" in (getattr(text.config, "layer_types", None) or ()):
            raise ExportError("decoder: layers with a sliding window cannot be exported")
        head: Any = text.get_input_embeddings() if model.lm_head is None else model.lm_head
        return DecoderParts(
            text.config,
            list(text.layers),
            text.norm,
            head,
            pair_axes=_pair_axes(text.rotary_emb),
            deepstack=len(model.projector) - 1,
        )

    def vision_graph(self, model: QwenModel, backbone: Any, dtype: torch.dtype) -> DeferredModel:
        height, width = model.config.picture
        return export_vision(QwenVisionGraph(model, backbone.tower, dtype), (height, width))

    def names(self, model: QwenModel, vision: str) -> dict[str, Any]:
        config = model.config
        return {
            "format_version": 2,
            "family": model.family,
            "backbone": {"decoder": config.text["model_type"], "vision": config.vision["model_type"]},
            "license": "that of the base model",
        }

    def image(self, model: QwenModel) -> dict[str, Any]:
        layers = len(model.projector) - 1
        return {
            "image_size": list(model.config.picture),
            "image_mean": PIXEL_MEAN,
            "image_std": PIXEL_STD,
            "visual_grid": list(model.config.grid),
            **({"deepstack": layers} if layers else {}),
        }

    def reference(self, model: QwenModel, backbone: nn.Module, image_id: int) -> Reference:
        return QwenReference(model, self.decoder_parts(model), backbone, image_id)

    def cell(self, folder: Path) -> int:
        vision = read_config(folder / CONFIG).get("vision_config", {})
        return int(vision.get("patch_size", 14)) * int(vision.get("spatial_merge_size", 2))

    def published_frame_tokens(self, folder: Path, frame: tuple[int, int]) -> int:
        cell = self.cell(folder)
        return (frame[0] // cell) * (frame[1] // cell)

    def chat_format(self, folder: Path, frame: tuple[int, int]) -> StreamFormat:
        return qwen_stream_format(self.published_frame_tokens(folder, frame))

    def open_published(
        self, folder: Path, frame: tuple[int, int], used_vocab: int, weights: Weights = None
    ) -> tuple[QwenModel, nn.Module]:
        model, tower = open_whole(folder, frame, used_vocab, weights)
        assert isinstance(model.vision, QwenVision)
        return model, QwenBackbone(model.vision, tower)


def _pair_axes(rotary: Any) -> tuple[int, ...]:
    """Return the axis of each rotated pair, from transformers itself: families lay them out differently."""
    pairs = len(rotary.inv_freq)
    axes = torch.arange(3.0).view(3, 1, 1, 1).repeat(1, 1, 1, pairs)
    return tuple(int(axis) for axis in rotary.recomposition_frequencies(axes).flatten()[:pairs])
