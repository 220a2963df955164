"""The SigLIP tower, pixel shuffle and connector of SmolVLM2 as one graph for frames of one size.

In transformers a mask says which patches are padding, and positions follow from it. A frame fills the
square, so the mask is dropped and the positions are one constant. Normalisation is part of the patches'
convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from export.vision.base import VisionGraph, copied
from train.models.smolvlm.model import SmolVLM
from train.models.smolvlm.vision import SiglipVision, pixel_shuffle

PIXEL_MEAN, PIXEL_STD = 0.0, 255.0
"""What the runtime normalises with; the model's own mean and deviation of each colour are in the graph."""


class SmolVLMVisionGraph(VisionGraph):
    """``tower``: of transformers (:meth:`SiglipVision.tower`); parts are copied, not changed.

    ``dtype``: in which it computes, float32 or float16.
    """

    position: Tensor

    def __init__(self, model: SmolVLM, tower: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        assert isinstance(model.vision, SiglipVision)
        self.dtype, self.scale = dtype, model.config.scale
        self.patches = _patch_convolution(
            tower.embeddings.patch_embedding, model.vision.mean, model.vision.std
        )
        self.register_buffer("position", _positions(tower.embeddings))
        self.layers: Any = copied(tower.encoder.layers)
        self.norm = copied(tower.post_layernorm)
        self.projector = copied(model.projector)
        self.to(dtype).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """``pixels`` [1, 3, H, W], 0 to 1 -> visual tokens [1, V, D] float32."""
        x = self.patches(pixels.to(self.dtype)).flatten(2).transpose(1, 2) + self.position  # [1, N, C]
        for layer in self.layers:
            x = layer(x, None)
        return self.projector(pixel_shuffle(self.norm(x), self.scale)).float()


@torch.no_grad()
def _positions(embeddings: Any) -> Tensor:
    """Position embeddings of a full square [1, N, C], by transformers' own rule."""
    exact = copy.deepcopy(embeddings).double()
    side = exact.image_size // exact.patch_size
    blank = torch.zeros(1, 3, exact.image_size, exact.image_size, dtype=torch.float64)
    whole = exact(pixel_values=blank, patch_attention_mask=torch.ones(1, side, side, dtype=torch.bool))
    return (whole - exact.patch_embedding(blank).flatten(2).transpose(1, 2)).float()


def _patch_convolution(embed: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> nn.Conv2d:
    """Return ``embed`` for pixels 0 to 1 that are not normalised."""
    weight = embed.weight.detach().double() / torch.tensor(std, dtype=torch.float64)[:, None, None]
    bias = -(weight * torch.tensor(mean, dtype=torch.float64)[:, None, None]).sum((1, 2, 3))
    if embed.bias is not None:
        bias = bias + embed.bias.detach()
    size = embed.kernel_size[0], embed.kernel_size[1]
    convolution = nn.Conv2d(3, len(weight), size, stride=size)
    convolution.weight.data, convolution.bias.data = weight.float(), bias.float()  # type: ignore[union-attr]
    return convolution
