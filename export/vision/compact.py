"""Vision of the compact family: backbone and projector in one graph, batch norms folded into convolutions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.errors import ExportError
from export.vision.base import VisionGraph
from train.models.compact.model import FEATURE_GRID, TRACE_CHANNELS, Projector


class CompactVisionGraph(VisionGraph):
    """``backbone``: pixels [N, 3, H, W] -> features [N, 320, 7, 7]; both parts are copied, not changed.

    ``dtype``: in which it computes, float32 or float16.
    """

    def __init__(self, backbone: nn.Module, projector: Projector, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.backbone = copy.deepcopy(backbone).eval()
        self.projector = copy.deepcopy(projector).eval()
        fold_batch_norms(self.backbone)
        _fold_input_norm(self.projector)
        if any(isinstance(module, nn.BatchNorm2d) for module in self.modules()):
            raise ExportError("vision: a batch norm follows no convolution and cannot be folded into one")
        if self.projector.trace is not None:
            self.previous_shape = (1, TRACE_CHANNELS, FEATURE_GRID, FEATURE_GRID)
        self.to(dtype)

    def forward(self, pixels: Tensor, previous: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """``pixels`` [1, 3, H, W], normalised -> visual tokens [1, V, D], with ``previous`` and ``trace``
        [1, T, 7, 7] when it compares; all float32.
        """
        features = self.backbone(pixels.to(self.dtype))
        if previous is None:
            return self.projector(features).float()
        tokens, trace = self.projector.see(features, previous.to(self.dtype))
        return tokens.float(), trace.float()


def fold_batch_norms(module: nn.Module) -> None:
    """Fold, in place, every batch norm that stands right behind a convolution among its siblings."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and previous is not None and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(child)
        previous = (name, child)


def _fold_input_norm(projector: Projector) -> None:
    """The projector's norm stands before 1 x 1 convolutions: w (s x + t) + b = (w s) x + (w t + b)."""
    norm = projector.norm
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        trace: Any = projector.trace
        for conv in (projector.cell, *([] if trace is None else trace[:1])):
            conv.bias += (conv.weight * shift[None, :, None, None]).sum(dim=(1, 2, 3))
            conv.weight *= scale[None, :, None, None]
    projector.norm = nn.Identity()  # type: ignore[assignment]
