"""The vision tower and mergers of Qwen2.5-VL and Qwen3-VL as one graph for frames of one size.

In transformers the grid of patches is data: positions, windows and interpolation are computed from it in each
call, with shapes that depend on it. Here the size is fixed, so all of them are computed once, by
transformers' own functions, and are constants of the graph.

A frame is an image that stands still: both slices of the temporal patch hold it, and the patch embedding
becomes one convolution of the image, normalisation included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.vision_utils import (
    get_vision_attention_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from export.decoder.graph import rotate
from export.vision.base import VisionGraph, copied
from train.models.qwen.model import QWEN2_5, QwenModel
from train.models.qwen.vision import QwenVision

PIXEL_MEAN, PIXEL_STD = 0.0, 255.0
"""What the runtime normalises with; the model's own mean and deviation of each colour are in the graph."""


class QwenVisionGraph(VisionGraph):
    """``tower``: without its mergers (:meth:`QwenVision.tower`); parts are copied, not changed.

    ``dtype``: in which it computes, float32 or float16.
    """

    order: Tensor | None
    back: Tensor | None
    position: Tensor | None

    def __init__(self, model: QwenModel, tower: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        assert isinstance(model.vision, QwenVision)
        config, self.dtype = tower.config, dtype
        self.merge, self.frame_tokens = config.spatial_merge_size, model.frame_tokens
        height, width = (side // config.patch_size for side in model.config.picture)
        grid = torch.tensor([[1, height, width]])
        self.patches = _patch_convolution(tower.patch_embed.proj, model.vision.mean, model.vision.std)
        places = get_vision_position_ids(grid, self.merge)
        cos, sin = tower.rotary_pos_emb(torch.zeros(1), places)  # [N, Dh] each, both halves alike
        whole = _lengths(get_vision_attention_seqlens(grid, config)[0])
        lengths = [whole] * len(tower.blocks)
        order = back = position = None
        if model.family == QWEN2_5:
            order, windows = get_vision_window_index(
                grid, self.merge, config.window_size, config.patch_size
            )  # [V], the merged tokens of each window together
            back = torch.argsort(order)
            full = config.fullatt_block_indexes
            lengths = [whole if i in full else _lengths(windows) for i in range(len(tower.blocks))]
            cos, sin = (self._permute(table, order) for table in (cos, sin))
        else:
            index, weights = get_vision_interpolation_indices_and_weights(
                grid,
                num_grid_per_side=tower.num_grid_per_side,
                mode=tower.interpolation_mode,
                align_corners=tower.interpolation_align_corners,
                spatial_merge_size=self.merge,
            )
            position = (tower.pos_embed(index) * weights[:, :, None]).sum(1).detach()  # [N, C]
        for name, constant in (("order", order), ("back", back), ("position", position)):
            self.register_buffer(name, constant)
        half = cos.shape[-1] // 2
        self.blocks = nn.ModuleList(
            _Block(block, cos[:, :half], sin[:, :half], parts)
            for block, parts in zip(tower.blocks, lengths, strict=True)
        )
        self.mergers: Any = copied(model.projector)
        # The mergers that take in what a block gives; the first of all takes in what the last one gives.
        self.deepstack: list[int] = list(getattr(config, "deepstack_visual_indexes", ()))
        self.to(dtype).eval()

    def _permute(self, x: Tensor, order: Tensor) -> Tensor:
        """``x`` [N, C], the patches of ``order``'s tokens one after the other."""
        return x.unflatten(0, (-1, self.merge**2)).index_select(0, order).flatten(0, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """``pixels`` [1, 3, H, W], 0 to 1 -> [1 + n, V, D] float32: visual tokens, then DeepStack's."""
        x = self.patches(pixels.to(self.dtype))[0]  # [C, h, w]
        # Patches of one token side by side: [C, h / m, m, w / m, m] -> [N, C].
        x = x.unflatten(2, (-1, self.merge)).unflatten(1, (-1, self.merge)).permute(1, 3, 2, 4, 0)
        x = x.flatten(0, 3)
        if self.position is not None:
            x = x + self.position
        if self.order is not None:
            x = self._permute(x, self.order)
        levels = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.deepstack:
                levels.append(self.mergers[1 + self.deepstack.index(i)](x))
        tokens = self.mergers[0](x)
        if self.back is not None:
            tokens = tokens.index_select(0, self.back)
        return torch.stack([tokens, *levels]).float()


class _Block(nn.Module):
    """A block of the tower over a fixed number of patches; ``lengths``: how many attend to each other."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None

    def __init__(self, block: Any, cos: Tensor, sin: Tensor, lengths: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList([copied(block.norm1), copied(block.norm2)])
        self.qkv, self.proj = copied(block.attn.qkv), copied(block.attn.proj)
        self.mlp = copied(block.mlp)
        self.heads = block.attn.num_heads
        alike = len(set(lengths)) == 1
        self.windows = len(lengths) if alike else 1
        window = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        # Windows at the edge of the image are smaller: then all patches are scored, and most blocked.
        self.register_buffer("mask", None if alike else window[:, None] == window[None, :])  # [N, N]
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C] -> [N, C]."""
        x = x + self._attend(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3).unbind(0)  # [h, N, Dh]
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        q, k, v = (part.unflatten(1, (self.windows, -1)).transpose(0, 1) for part in (q, k, v))
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)  # [W, h, N / W, Dh]
        return self.proj(out.transpose(1, 2).flatten(2).flatten(0, 1))


def _patch_convolution(embed: nn.Conv3d, mean: Sequence[float], std: Sequence[float]) -> nn.Conv2d:
    """``embed`` over two slices that are the same image, of pixels 0 to 1 that are not normalised."""
    weight = embed.weight.detach().double().sum(2)  # [C, 3, P, P]
    weight = weight / torch.tensor(std, dtype=torch.float64)[:, None, None]
    bias = -(weight * torch.tensor(mean, dtype=torch.float64)[:, None, None]).sum((1, 2, 3))
    if embed.bias is not None:
        bias = bias + embed.bias.detach()
    size = embed.kernel_size[1], embed.kernel_size[2]
    convolution = nn.Conv2d(3, len(weight), size, stride=size)
    convolution.weight.data, convolution.bias.data = weight.float(), bias.float()  # type: ignore[union-attr]
    return convolution


def _lengths(bounds: Tensor) -> list[int]:
    return (bounds[1:] - bounds[:-1]).tolist()
