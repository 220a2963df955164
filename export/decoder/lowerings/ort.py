"""The lowering for ONNX Runtime: ``com.microsoft.GroupQueryAttention`` over a cache written in place.

Each custom operator below has a plain torch body, so that the graph module also runs (and is tested) eagerly,
and an ONNX translation. With past and present bound to one buffer, GroupQueryAttention writes only the
chunk's rows: what a timestep costs depends on the rows in use, not on the cache's capacity.

GroupQueryAttention can rotate by one position a token. With M-RoPE queries and keys are rotated in front of
it, and the tables of that are gathered once a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import onnx
import torch
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from onnxscript.values import Op, Opset
from torch import Tensor, nn

from export.decoder.graph import Chunk, DecoderShape, Lowering, rotate

_MS = Opset("com.microsoft", 1)


def _over_cache(
    q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor, write_index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Writes the chunk's ``k`` and ``v`` [1, K, S, Dh] into copies of the caches and attends over them with
    ``q`` [1, H, S, Dh], causally.
    """
    length = q.shape[2]
    start = int(write_index)
    k_cache, v_cache = past_k.clone(), past_v.clone()
    k_cache[:, :, start : start + length] = k
    v_cache[:, :, start : start + length] = v
    rows = torch.arange(start + length)
    mask = rows[None, :] <= start + torch.arange(length)[:, None]
    keys, values = k_cache[:, :, : start + length], v_cache[:, :, : start + length]
    out = nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
    return out.transpose(1, 2).reshape(1, length, -1), k_cache, v_cache


@torch.library.custom_op("edge_export::cached_attention", mutates_args=())
def cached_attention(
    qkv: Tensor,
    past_k: Tensor,
    past_v: Tensor,
    write_index: Tensor,
    position_ids: Tensor,
    cos: Tensor,
    sin: Tensor,
    num_heads: int,
    num_kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """What GroupQueryAttention computes; shapes as in :class:`export.decoder.graph.Lowering`."""
    heads = qkv.unflatten(-1, (-1, past_k.shape[-1])).transpose(1, 2)  # [1, H + 2K, S, Dh]
    q, k, v = heads.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    cos, sin = cos[position_ids[0]], sin[position_ids[0]]  # [S, Dh / 2]
    return _over_cache(rotate(q, cos, sin), rotate(k, cos, sin), v, past_k, past_v, write_index)


@cached_attention.register_fake
def _(qkv: Tensor, past_k: Tensor, past_v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, num_heads, _ = rest
    out = qkv.new_empty(1, qkv.shape[1], num_heads * past_k.shape[-1])
    return out, torch.empty_like(past_k), torch.empty_like(past_v)


@torch.library.custom_op("edge_export::rotated_attention", mutates_args=())
def rotated_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    past_k: Tensor,
    past_v: Tensor,
    write_index: Tensor,
    num_heads: int,
    num_kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`cached_attention`, of queries [1, S, H Dh] and keys [1, S, K Dh] that are rotated already."""
    q, k, v = (x.unflatten(-1, (-1, past_k.shape[-1])).transpose(1, 2) for x in (q, k, v))
    return _over_cache(q, k, v, past_k, past_v, write_index)


@rotated_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(past_k), torch.empty_like(past_v)


@torch.library.custom_op("edge_export::rotate_heads", mutates_args=())
def rotate_heads(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads side by side [1, S, n Dh], rotated by the chunk's own ``cos``, ``sin`` [S, Dh / 2]."""
    heads = x.unflatten(-1, (-1, 2 * cos.shape[-1])).transpose(1, 2)
    return rotate(heads, cos, sin).transpose(1, 2).reshape(x.shape)


@rotate_heads.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("edge_export::add_rms_norm", mutates_args=())
def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    total = x + residual
    return nn.functional.rms_norm(total, (total.shape[-1],), weight, eps), total


@add_rms_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


def _contrib_op(name: str, inputs: list[str], outputs: list[str], attributes: dict[str, str]) -> Op:
    """An operator of ONNX Runtime's own domain. The `onnx` package has no schemas for it, and the exporter
    wants one: the inputs and outputs used here, each of any type. A name with ``?`` is optional."""
    schema, attr_type = onnx.defs.OpSchema, onnx.defs.OpSchema.AttrType
    types = [f"tensor({kind})" for kind in ("float", "float16", "int64", "int32")]

    def parameter(value: str, i: int) -> Any:
        option = onnx.defs.OpSchema.FormalParameterOption
        kind = option.Optional if value.endswith("?") else option.Single
        return schema.FormalParameter(value.rstrip("?"), f"T{i}", param_option=kind)

    return Op(
        _MS,
        name,
        schema(
            name,
            _MS.domain,
            _MS.version,
            inputs=[parameter(value, i) for i, value in enumerate(inputs)],
            outputs=[parameter(value, len(inputs) + i) for i, value in enumerate(outputs)],
            type_constraints=[(f"T{i}", types, "") for i in range(len(inputs) + len(outputs))],
            attributes=[schema.Attribute(k, getattr(attr_type, v), "") for k, v in attributes.items()],
        ),
    )


_GROUP_QUERY_ATTENTION = _contrib_op(
    "GroupQueryAttention",
    [
        *("query", "key?", "value?", "past_key", "past_value", "seqlens_k", "total_sequence_length"),
        *("cos_cache?", "sin_cache?", "position_ids?"),
    ],
    ["output", "present_key", "present_value"],
    {"num_heads": "INT", "kv_num_heads": "INT", "do_rotary": "INT"},
)
_ROTARY_EMBEDDING = _contrib_op(
    "RotaryEmbedding", ["input", "position_ids", "cos_cache", "sin_cache"], ["output"], {}
)
_SKIP_NORM = _contrib_op(
    "SkipSimplifiedLayerNormalization",
    ["input", "skip", "gamma"],
    ["output", "mean?", "inv_std_var?", "input_skip_bias_sum"],
    {"epsilon": "FLOAT"},
)


def _group_query_attention(
    query: list[Any], caches: list[Any], total: Any, rotary: list[Any], **heads: int
) -> Any:
    """``query``: queries, keys and values, or all three in the first; ``total`` [1]: rows in use after this
    chunk. The nodes made from it are the same in every layer: ONNX Runtime merges them on loading.
    """
    return _GROUP_QUERY_ATTENTION(
        *query,
        *caches,
        op.Cast(op.Sub(total, op.Constant(value_ints=[1])), to=onnx.TensorProto.INT32),
        op.Cast(op.Squeeze(total), to=onnx.TensorProto.INT32),
        *rotary,
        **heads,
        do_rotary=int(bool(rotary)),
    )


def _cached_attention_onnx(
    qkv: FLOAT,
    past_k: FLOAT,
    past_v: FLOAT,
    write_index: INT64,
    position_ids: INT64,
    cos: FLOAT,
    sin: FLOAT,
    num_heads: int,
    num_kv_heads: int,
) -> Any:
    total = op.Add(write_index, op.Shape(position_ids, start=1, end=2))
    rotary = [cos, sin, position_ids]
    heads = {"num_heads": num_heads, "kv_num_heads": num_kv_heads}
    return _group_query_attention([qkv, None, None], [past_k, past_v], total, rotary, **heads)


def _rotated_attention_onnx(
    q: FLOAT,
    k: FLOAT,
    v: FLOAT,
    past_k: FLOAT,
    past_v: FLOAT,
    write_index: INT64,
    num_heads: int,
    num_kv_heads: int,
) -> Any:
    total = op.Add(write_index, op.Shape(q, start=1, end=2))
    heads = {"num_heads": num_heads, "kv_num_heads": num_kv_heads}
    return _group_query_attention([q, k, v], [past_k, past_v], total, [], **heads)


def _rotate_heads_onnx(x: FLOAT, cos: FLOAT, sin: FLOAT) -> Any:
    return _ROTARY_EMBEDDING(x, op.Constant(value_ints=[0]), cos, sin)  # [0]: rows of the tables from 0 on


def _add_rms_norm_onnx(x: FLOAT, residual: FLOAT, weight: FLOAT, eps: float) -> Any:
    normed, _, _, total = _SKIP_NORM(x, residual, weight, epsilon=eps)
    return normed, total


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.edge_export.cached_attention.default: _cached_attention_onnx,
    torch.ops.edge_export.rotated_attention.default: _rotated_attention_onnx,
    torch.ops.edge_export.rotate_heads.default: _rotate_heads_onnx,
    torch.ops.edge_export.add_rms_norm.default: _add_rms_norm_onnx,
}


class OrtLowering(Lowering):
    """Operators of ONNX Runtime's ``com.microsoft`` domain."""

    name = "ort-gqa"
    opset = 18
    translations: ClassVar = TRANSLATIONS

    def start(self, chunk: Chunk, shape: DecoderShape) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """The second is None when the tables are the chunk's own: queries and keys are rotated first."""
        if chunk.pair_axes is None:
            return chunk.write_index, chunk.position_ids[0], chunk.cos, chunk.sin
        return chunk.write_index, None, *chunk.rotation()

    def attention(
        self, qkv: Tensor, past_k: Tensor, past_v: Tensor, shared: tuple[Any, ...], shape: DecoderShape
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads = shape.num_heads, shape.num_kv_heads
        write_index, position_ids, cos, sin = shared
        if position_ids is not None:
            return cached_attention(qkv, past_k, past_v, write_index, position_ids, cos, sin, *heads)
        q, k, v = qkv.split([number * shape.head_dim for number in (heads[0], heads[1], heads[1])], dim=-1)
        q, k = rotate_heads(q, cos, sin), rotate_heads(k, cos, sin)
        return rotated_attention(q, k, v, past_k, past_v, write_index, *heads)

    def add_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        return add_rms_norm(x, residual, weight, eps)
