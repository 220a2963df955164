"""The lowering for TensorRT from 10.15 on and for TensorRT-RTX: opset 24 ``TensorScatter`` and ``Attention``.

TensorScatter becomes TensorRT's layer that updates a cache in place. What may be attended to is said by an
explicit boolean mask and by nothing else: TensorRT ignores ``nonpad_kv_seqlen`` without a word and aligns
``is_causal`` with the first row, so that a graph with either is right in ONNX Runtime and wrong there.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from onnxscript.values import Op, Opset
from torch import Tensor, nn

from export.decoder.graph import Chunk, DecoderShape, Lowering, rotate, split_heads

_ONNX = Opset("", 24)


@torch.library.custom_op("edge_export::tensor_scatter", mutates_args=())
def tensor_scatter(past: Tensor, update: Tensor, write_index: Tensor) -> Tensor:
    """``past`` [1, K, C, Dh] with ``update`` [1, K, S, Dh] at the rows from ``write_index`` [1]."""
    start = int(write_index)
    result = past.clone()
    result[:, :, start : start + update.shape[2]] = update
    return result


@tensor_scatter.register_fake
def _(past: Tensor, update: Tensor, write_index: Tensor) -> Tensor:
    return torch.empty_like(past)


@torch.library.custom_op("edge_export::masked_attention", mutates_args=())
def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """``q`` [1, H, S, Dh], ``k``, ``v`` [1, K, C, Dh], ``mask`` bool [1, 1, S, C]: True is attended to."""
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


@masked_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.empty_like(q)


_TENSOR_SCATTER = Op(_ONNX, "TensorScatter")
_ATTENTION = Op(_ONNX, "Attention")


def _tensor_scatter_onnx(past: Any, update: Any, write_index: Any) -> Any:
    return _TENSOR_SCATTER(past, update, write_index, axis=-2)


def _masked_attention_onnx(q: Any, k: Any, v: Any, mask: Any) -> Any:
    return _ATTENTION(q, k, v, mask)[0]  # the others, unused, are dropped by export.decoder.to_onnx


class NativeLowering(Lowering):
    """Operators of ONNX itself; runs in ONNX Runtime as well."""

    name = "native-kv"
    opset = 24
    translations: ClassVar = {
        torch.ops.edge_export.tensor_scatter.default: _tensor_scatter_onnx,
        torch.ops.edge_export.masked_attention.default: _masked_attention_onnx,
    }

    def start(self, chunk: Chunk, shape: DecoderShape) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = torch.arange(shape.context_rows)
        last = chunk.write_index + rows[: chunk.length]  # [S], the row that each position is written to
        mask = rows[None, :] <= last[:, None]  # [S, C]
        return *chunk.rotation(), chunk.write_index, mask[None, None]

    def attention(
        self, qkv: Tensor, past_k: Tensor, past_v: Tensor, shared: tuple[Tensor, ...], shape: DecoderShape
    ) -> tuple[Tensor, Tensor, Tensor]:
        cos, sin, write_index, mask = shared
        q, k, v = split_heads(qkv, shape)
        keys = tensor_scatter(past_k, rotate(k, cos, sin), write_index)
        values = tensor_scatter(past_v, v, write_index)
        out = masked_attention(rotate(q, cos, sin), keys, values, mask)
        return out.transpose(1, 2).flatten(2), keys, values
