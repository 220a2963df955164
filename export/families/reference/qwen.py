"""A Qwen checkpoint streamed with plain PyTorch, as training runs it: what its graphs are measured against.

Positions come from the model's own rule over the ids of all rows, before and after an eviction: nothing is
assumed about how positions move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from edge_runtime.kv_cache.window import EvictionPlan
from export.decoder.parts import DecoderParts
from export.families.reference.decoder import kept_ranges
from train.models.base import Visual
from train.models.qwen.model import QwenModel
from train.models.qwen.vision import QwenVision, encode
from train.models.stored import weight_rows

_HEAD_ROWS = 1 << 16
"""Of the output matrix that are read at a time."""


class QwenBackbone(nn.Module):
    """The frozen tower of transformers, as the feature cache of training runs it."""

    def __init__(self, vision: QwenVision, tower: nn.Module | None = None) -> None:
        """``tower``: in memory already; None: it is read from the file."""
        super().__init__()
        self.tower = vision.tower() if tower is None else tower
        self._processor = vision.processor()

    def forward(self, pixels: Tensor) -> Tensor:
        """``pixels`` [N, 3, H, W], 0 to 1 -> features [N, 1 + n, V, patches x C]."""
        pictures = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return torch.from_numpy(encode(self.tower, self._processor, pictures.numpy()).astype(np.float32))


class QwenReference:
    """One stream of a checkpoint, fed with pixels and token ids."""

    def __init__(self, model: QwenModel, parts: DecoderParts, backbone: nn.Module, image_id: int) -> None:
        self._model, self._backbone, self._image_id = model.eval(), backbone.eval(), image_id
        head: Any = parts.head  # an embedding when it is tied
        self._head, self._head_shape = head, head.weight.shape
        self._axes = torch.tensor(parts.pair_axes)  # [Dh / 2]
        decoder: Any = model.decoder
        self._frequencies = decoder.rotary_emb.inv_freq.double()  # [Dh / 2], radians a position
        self._layers: list[Any] = [DynamicLayer() for _ in parts.layers]
        self._cache = Cache(layers=self._layers)
        self._ids: list[int] = []
        self._seen: list[Visual] = []  # frames that no append has held yet

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.float32]) -> None:
        """The next frame, [1, 3, H, W]."""
        self._seen.append(self._model.visual(self._backbone(torch.from_numpy(pixels))))

    def seen(self) -> Visual:
        return self._seen[-1]

    @torch.inference_mode()
    def append(self, ids: Sequence[int], start: int, with_frame: bool) -> NDArray[np.float32]:
        """Append ``ids`` at rows ``start ..`` and return the logits after the last one, [vocab]."""
        if start < len(self._ids):
            self.keep(list(range(start)))
        self._ids += ids
        if with_frame:
            visual, self._seen = (
                joined(self._seen[-(ids.count(self._image_id) // self._model.frame_tokens) :]),
                [],
            )
        else:
            visual = Visual(torch.zeros(0, self._model.frame_tokens, self._head_shape[1]))
        hidden = self._model.hidden(
            torch.tensor([list(ids)]),
            visual,
            self._image_id,
            positions=self._positions(self._ids)[:, None, start:],
            cache=self._cache,
        )
        return self._logits(hidden[0, -1])

    def _logits(self, hidden: Tensor) -> NDArray[np.float32]:
        """[D] -> [vocab], by some rows of the output matrix at a time."""
        rows = self._head_shape[0]
        parts = [
            nn.functional.linear(hidden, weight_rows(self._head, start, min(start + _HEAD_ROWS, rows)))
            for start in range(0, rows, _HEAD_ROWS)
        ]
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def evict(self, plan: EvictionPlan) -> None:
        self.keep([row for first, end in kept_ranges(plan) for row in range(first, end)])

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keys and values of all rows, [L, Hkv, rows, Dh] each."""
        keys, values = (
            np.stack([getattr(layer, kind)[0].numpy() for layer in self._layers])
            for kind in ("keys", "values")
        )
        return keys, values

    def _positions(self, ids: Sequence[int]) -> Tensor:
        """[3, rows] of a stream that begins with these ids."""
        start = torch.zeros(1, dtype=torch.long)
        return self._model.positions(torch.tensor([list(ids)]), self._image_id, start)[0][:, 0]

    def keep(self, rows: list[int]) -> None:
        """Drop the other rows, and turn the keys of the kept ones from their old positions to the new."""
        kept = [self._ids[row] for row in rows]
        turn = self._positions(kept) - self._positions(self._ids)[:, rows]  # [3, rows]
        angles = turn[self._axes].T.double() * self._frequencies  # [rows, Dh / 2]
        cos, sin = angles.cos().float(), angles.sin().float()
        for layer in self._layers:
            first, second = layer.keys[:, :, rows].chunk(2, dim=-1)
            layer.keys = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
            layer.values = layer.values[:, :, rows]
        self._ids = kept


def joined(frames: Sequence[Visual]) -> Visual:
    """Several frames as one batch."""
    levels = [frame.deepstack for frame in frames if frame.deepstack is not None]
    tokens = torch.cat([frame.tokens for frame in frames])  # [N, V, D]
    return Visual(tokens, torch.cat(levels, dim=1) if levels else None)
