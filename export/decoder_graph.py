"""The cached incremental decoder as one traceable module, the same for every backend.

A graph takes a chunk of embeddings and a static key/value cache, writes the chunk's keys and values into the
cache at ``write_index`` and gives the logits of the chunk's last position. How the cache is written and read
is the business of a *lowering* (:mod:`export.lowering_ort`), because each inference engine has its own
operator for it; everything else lives here once.

Letters: S positions in the chunk, C cache rows, D width, H query heads, K key/value heads, Dh head width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from export.errors import ExportError


@dataclass(frozen=True)
class DecoderShape:
    """Sizes that a runtime has to know to feed the graph; the part of ``bundle.json`` under ``model``."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float
    vocab_size: int
    context_rows: int
    """Rows of the static cache (C): no graph call may write beyond them."""

    @classmethod
    def of(cls, config: LlamaConfig, context_rows: int) -> DecoderShape:
        """Raises ExportError for a Llama whose attention or rotation this graph does not have."""
        rope = config.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise ExportError(f"decoder: rope type {rope['rope_type']!r} is not supported, only 'default'")
        if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
            raise ExportError("decoder: only a Llama without biases and with silu can be exported")
        return cls(
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
            rope_theta=float(rope["rope_theta"]),
            vocab_size=config.vocab_size,
            context_rows=context_rows,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Lowering(Protocol):
    """How one inference engine attends over a static cache and adds to the residual stream."""

    name: str

    def attention(
        self,
        qkv: Tensor,
        past_k: Tensor,
        past_v: Tensor,
        write_index: Tensor,
        position_ids: Tensor,
        cos: Tensor,
        sin: Tensor,
        shape: DecoderShape,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotate, write into the cache and attend causally.

        ``qkv`` [1, S, (H + 2K) Dh]; ``past_k``, ``past_v`` [1, K, C, Dh]; ``write_index`` [1];
        ``position_ids`` [1, S]; ``cos``, ``sin`` [C, Dh / 2].
        Returns [1, S, H Dh] and the two caches with the chunk written.
        """
        ...

    def add_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """``(norm(x + residual), x + residual)``."""
        ...


def rotary_tables(shape: DecoderShape) -> tuple[Tensor, Tensor]:
    """cos and sin [C, Dh / 2] of the half-split rotation that Llama uses, in fp32."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    inverse = 1.0 / (shape.rope_theta**exponents)
    angles = torch.outer(torch.arange(shape.context_rows, dtype=torch.float64), inverse)
    return angles.cos().float(), angles.sin().float()


class DecoderLayer(nn.Module):
    """One Llama block with its weights packed: one product for q, k and v, one for gate and up."""

    def __init__(self, layer: nn.Module, eps: float) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.eps = eps
        # Weights are kept [in, out], as MatMul wants them: no transpose is left in the graph to fold.
        self.qkv = _frozen(
            torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]).T
        )
        self.out = _frozen(attention.o_proj.weight.T)
        self.gate_up = _frozen(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).T)
        self.down = _frozen(mlp.down_proj.weight.T)
        self.mlp_norm = _frozen(layer.post_attention_layernorm.weight)

    def mlp(self, x: Tensor) -> Tensor:
        gate, up = torch.matmul(x, self.gate_up).chunk(2, dim=-1)
        return torch.matmul(nn.functional.silu(gate) * up, self.down)


class DecoderGraph(nn.Module):
    """``(inputs_embeds, position_ids, write_index, past_k.0, past_v.0, ...)`` to
    ``(logits, present_k.0, present_v.0, ...)``.

    Weights are copied from ``decoder``, which is not changed.
    """

    def __init__(self, decoder: LlamaForCausalLM, lowering: Lowering, context_rows: int) -> None:
        super().__init__()
        self.shape = DecoderShape.of(decoder.config, context_rows)
        self.lowering = lowering
        self.eps = float(decoder.config.rms_norm_eps)
        layers = list(decoder.model.layers)
        self.layers = nn.ModuleList(DecoderLayer(layer, self.eps) for layer in layers)
        # The norm in front of each attention, then the final one: norm i closes block i - 1.
        norms = [layer.input_layernorm for layer in layers] + [decoder.model.norm]
        self.norms = nn.ParameterList(_frozen(norm.weight) for norm in norms)
        self.lm_head = _frozen(decoder.lm_head.weight.T)
        cos, sin = rotary_tables(self.shape)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def input_names(self) -> list[str]:
        cache = [f"past_{kv}.{i}" for i in range(self.shape.num_layers) for kv in "kv"]
        return ["inputs_embeds", "position_ids", "write_index", *cache]

    def output_names(self) -> list[str]:
        return ["logits", *(f"present_{kv}.{i}" for i in range(self.shape.num_layers) for kv in "kv")]

    def example_inputs(self, length: int = 3) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Inputs of the right shapes for a chunk of ``length`` written after two rows."""
        s = self.shape
        cache = [torch.zeros(1, s.num_kv_heads, s.context_rows, s.head_dim) for _ in range(2 * s.num_layers)]
        return (
            torch.zeros(1, length, s.hidden_size),
            torch.arange(2, 2 + length).reshape(1, 1, length),
            torch.tensor([2]),
            cache,
        )

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, write_index: Tensor, cache: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """``inputs_embeds`` [1, S, D]; ``position_ids`` [1, 1, S]; ``write_index`` [1]; ``cache``: keys and
        values of each layer in turn, [1, K, C, Dh] each.

        Returns logits [1, vocab] of the last position and the caches with the chunk written.
        """
        positions = position_ids[0]  # [1, S]
        present: list[Tensor] = []
        residual = inputs_embeds
        x = residual * torch.rsqrt(residual.square().mean(-1, keepdim=True) + self.eps) * self.norms[0]
        for i, layer in enumerate(self.layers):
            x, k, v = self.lowering.attention(
                torch.matmul(x, layer.qkv),
                cache[2 * i],
                cache[2 * i + 1],
                write_index,
                positions,
                self.cos,
                self.sin,
                self.shape,
            )
            present += [k, v]
            if i == len(self.layers) - 1:
                # Nothing after the last attention looks at other positions: go on with the last one alone.
                x, residual = x[:, -1:], residual[:, -1:]
            x = torch.matmul(x, layer.out)
            x, residual = self.lowering.add_norm(x, residual, layer.mlp_norm, self.eps)
            x, residual = self.lowering.add_norm(layer.mlp(x), residual, self.norms[i + 1], self.eps)
        return torch.matmul(x[:, 0], self.lm_head), *present


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().to(torch.float32).contiguous().clone(), requires_grad=False)
