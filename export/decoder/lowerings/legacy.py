"""The lowering for TensorRT before 10.15 (JetPack 6 among them): opset 17, nothing written in place.

Those versions leave it undefined what happens when an output lies where an input does. So the graph reads the
cache, attends over the cached rows and the chunk's own under one mask, and gives the chunk's keys and values,
packed into one tensor: the runtime copies them into the cache afterwards, with a single strided copy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from export.decoder.graph import Chunk, DecoderShape, Lowering, rotate, split_heads

_BLOCKED = -30_000.0
"""Added to a score that must not count: beyond any score, and within the range of fp16."""


class LegacyLowering(Lowering):
    """Products and a softmax that every engine knows."""

    name = "legacy-kv"
    opset = 17

    def start(self, chunk: Chunk, shape: DecoderShape) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.arange(shape.context_rows)
        new = rows[: chunk.length]  # [S]
        cached = rows[None, :] < chunk.write_index[:, None]  # [1, C]
        own = new[None, :] <= new[:, None]  # [S, S]
        blocked = torch.cat([~cached.expand(new.shape[0], -1), ~own], dim=1)  # [S, C + S]
        return *chunk.rotation(), blocked.to(chunk.cos.dtype) * _BLOCKED

    def attention(
        self, qkv: Tensor, past_k: Tensor, past_v: Tensor, shared: tuple[Tensor, ...], shape: DecoderShape
    ) -> tuple[Tensor, Tensor, Tensor]:
        cos, sin, bias = shared
        q, k, v = split_heads(qkv, shape)
        k = rotate(k, cos, sin)
        q = rotate(q, cos, sin) * shape.head_dim**-0.5
        # Query heads of one key head together: [1, K, H / K, S, Dh] against [1, K, 1, C + S, Dh].
        groups = shape.num_heads // shape.num_kv_heads
        q = q.unflatten(1, (shape.num_kv_heads, groups))
        keys = torch.cat([past_k, k], dim=2).unsqueeze(2)
        values = torch.cat([past_v, v], dim=2).unsqueeze(2)
        scores = torch.matmul(q, keys.transpose(-1, -2)) + bias
        out = torch.matmul(torch.softmax(scores, dim=-1), values)  # [1, K, H / K, S, Dh]
        return out.flatten(1, 2).transpose(1, 2).flatten(2), k, v

    def outputs(self, layers: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """``new_kv`` [2L, K, S, Dh]: keys and values of each layer in turn, as the inputs stand."""
        return [torch.cat([tensor for pair in layers for tensor in pair])]

    def output_names(self, num_layers: int) -> list[str]:
        return ["new_kv"]
