"""The cached incremental decoder as one traceable module, the same for every backend.

A graph takes a chunk of embeddings and a static key/value cache, writes the chunk's keys and values into the
cache at ``write_index`` and gives the logits of the chunk's last position, or of the positions that
``logit_rows`` names. How the cache is written and read is the business of a *lowering*
(:mod:`export.decoder.lowerings.ort`, :mod:`export.decoder.lowerings.native`,
:mod:`export.decoder.lowerings.legacy`), because each inference engine has its own operators for it;
everything else lives here once.

Letters: S positions in the chunk, C cache rows, P positions with angles, D width, H query heads, K key/value
heads, Dh head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from export.decoder.deferred import Matrix, Weight
from export.decoder.parts import DecoderParts
from export.errors import ExportError

LOGIT_ROWS = "logit_rows"
"""Input of a graph that gives logits of several positions: the runtime verifies drafts with it."""
ROPE_TABLE_FACTOR = 4
"""Positions a graph has angles for, in rows of its cache: an eviction then lets positions grow on, and
rotates all keys back only when three caches full have passed (:mod:`edge_runtime.kv_cache.placement`)."""


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
    rotary_positions: int
    """Positions with angles (P): no graph call may ask for one beyond them."""

    @classmethod
    def of(cls, config: Any, context_rows: int) -> DecoderShape:
        """Of a text model's configuration. Raises ExportError when this graph does not have its attention or
        rotation."""
        rope = config.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise ExportError(f"decoder: rope type {rope['rope_type']!r} is not supported, only 'default'")
        biases = getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
        if biases or config.hidden_act != "silu":
            raise ExportError("decoder: only a Llama without biases and with silu can be exported")
        return cls(
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            rope_theta=float(rope["rope_theta"]),
            vocab_size=config.vocab_size,
            context_rows=context_rows,
            rotary_positions=ROPE_TABLE_FACTOR * context_rows,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Chunk(NamedTuple):
    """Where a chunk of S tokens goes, and the angles of all positions."""

    write_index: Tensor
    """[1]: the row of its first token."""
    position_ids: Tensor
    """[1, 1, S], or [3, 1, S] with ``pair_axes``."""
    cos: Tensor
    """[P, Dh / 2], as ``sin``."""
    sin: Tensor
    pair_axes: Tensor | None
    """M-RoPE: the axis of each rotated pair [Dh / 2]."""

    @property
    def length(self) -> int:
        return self.position_ids.shape[2]

    def rotation(self) -> tuple[Tensor, Tensor]:
        """cos and sin [S, Dh / 2] of the chunk's own positions."""
        if self.pair_axes is None:
            positions = self.position_ids[0, 0]  # [S]
            return self.cos.index_select(0, positions), self.sin.index_select(0, positions)
        # [S, Dh / 2], each pair by its own axis
        positions = self.position_ids[:, 0].index_select(0, self.pair_axes).T
        return self.cos.gather(0, positions), self.sin.gather(0, positions)


class Lowering(ABC):
    """How one inference engine attends over a static cache and adds to the residual stream."""

    name: str
    """As ``bundle.json`` says it: ``ort-gqa``, ``native-kv`` or ``legacy-kv``."""
    opset: int
    translations: ClassVar[dict[Callable[..., Any], Callable[..., Any]]] = {}
    """PyTorch operators of the lowering, and what makes the ONNX nodes of each."""

    @abstractmethod
    def start(self, chunk: Chunk, shape: DecoderShape) -> Any:
        """Compute what all layers share (rotations, mask) once a call; :meth:`attention` gets it."""

    @abstractmethod
    def attention(
        self, qkv: Tensor, past_k: Tensor, past_v: Tensor, shared: Any, shape: DecoderShape
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotate, write into the cache and attend causally.

        ``qkv`` [1, S, (H + 2K) Dh]; ``past_k``, ``past_v`` [1, K, C, Dh].
        Returns [1, S, H Dh] and the layer's keys and values for :meth:`outputs`.
        """

    def outputs(self, layers: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Return what the graph gives beside the logits: every cache, written in place."""
        return [tensor for pair in layers for tensor in pair]

    def output_names(self, num_layers: int) -> list[str]:
        """Return the names of :meth:`outputs`."""
        return [f"present_{kv}.{i}" for i in range(num_layers) for kv in "kv"]

    def add_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Return ``(norm(x + residual), x + residual)``."""
        total = x + residual
        return rms_norm(total, weight, eps), total


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """In fp32 whatever ``x`` is in: squares of a residual stream leave the range of fp16. [..., D]."""
    wide = x.float()
    return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def split_heads(qkv: Tensor, shape: DecoderShape) -> tuple[Tensor, Tensor, Tensor]:
    """[1, S, (H + 2K) Dh] -> queries [1, H, S, Dh], keys and values [1, K, S, Dh]."""
    heads = qkv.unflatten(-1, (-1, shape.head_dim)).transpose(1, 2)
    sizes = [shape.num_heads, shape.num_kv_heads, shape.num_kv_heads]
    q, k, v = heads.split(sizes, dim=1)
    return q, k, v


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + Dh / 2) of ``x`` [..., S, Dh] by the angles of ``cos``, ``sin`` [S, Dh / 2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotary_tables(shape: DecoderShape) -> tuple[Tensor, Tensor]:
    """cos and sin [P, Dh / 2] of the half-split rotation that Llama uses, in fp32."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    inverse = 1.0 / (shape.rope_theta**exponents)
    angles = torch.outer(torch.arange(shape.rotary_positions, dtype=torch.float64), inverse)
    return angles.cos().float(), angles.sin().float()


class DecoderLayer(nn.Module):
    """One block with its weights packed: one product for q, k and v, one for gate and up.

    As Llama has it; with biases of q, k and v (Qwen2.5) or norms of each query and key head (Qwen3) where the
    block has them.
    """

    qkv_bias: Tensor | None
    head_norm: Tensor | None

    def __init__(self, layer: Any, shape: DecoderShape, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.shape, self.eps = shape, eps
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv_bias = self.head_norm = None
        if parts[0].bias is not None:
            self.qkv_bias = _frozen(torch.cat([part.bias for part in parts]), dtype)
        if hasattr(attention, "q_norm"):
            queries = attention.q_norm.weight.expand(shape.num_heads, -1)
            keys = attention.k_norm.weight.expand(shape.num_kv_heads, -1)
            self.head_norm = _frozen(torch.cat([queries, keys]), dtype)  # [H + K, Dh]
        # Weights are kept [in, out], as MatMul wants them: no transpose is left in the graph to fold.
        self.matrices = {
            "qkv": Matrix(parts, dtype),
            "out": Matrix((attention.o_proj,), dtype),
            "gate_up": Matrix((mlp.gate_proj, mlp.up_proj), dtype),
            "down": Matrix((mlp.down_proj,), dtype),
        }
        self.qkv, self.out, self.gate_up, self.down = (_packed(matrix) for matrix in self.matrices.values())
        self.mlp_norm = _frozen(layer.post_attention_layernorm.weight, dtype)

    def queries_keys_values(self, x: Tensor) -> Tensor:
        """[1, S, D] -> [1, S, (H + 2K) Dh], not rotated yet."""
        qkv = torch.matmul(x, self.qkv)
        if self.qkv_bias is not None:
            qkv = qkv + self.qkv_bias
        if self.head_norm is None:
            return qkv
        heads = qkv.unflatten(-1, (-1, self.shape.head_dim))  # [1, S, H + 2K, Dh]
        values = self.shape.num_kv_heads
        rotated, kept = heads.split([heads.shape[2] - values, values], dim=2)
        return torch.cat([rms_norm(rotated, self.head_norm, self.eps), kept], dim=2).flatten(2)

    def mlp(self, x: Tensor) -> Tensor:
        gate, up = torch.matmul(x, self.gate_up).chunk(2, dim=-1)
        return torch.matmul(nn.functional.silu(gate) * up, self.down)


class DecoderGraph(nn.Module):
    """``(inputs_embeds, position_ids, write_index, past_k.0, past_v.0, ...)``, ``deepstack`` where the
    decoder has that and ``logit_rows`` with ``chooses_rows``, to ``(logits, ...)``, the rest as the lowering
    says.

    Weights are copied from ``parts``, which are not changed. ``dtype``: of weights, activations and cache,
    float32 or float16; embeddings and logits are float32 all the same.
    """

    cos: Tensor
    sin: Tensor
    pair_axes: Tensor | None

    def __init__(
        self,
        parts: DecoderParts,
        lowering: Lowering,
        context_rows: int,
        dtype: torch.dtype = torch.float32,
        *,
        chooses_rows: bool = False,
    ) -> None:
        super().__init__()
        self.chooses_rows = chooses_rows
        self.shape = shape = DecoderShape.of(parts.config, context_rows)
        self.lowering = lowering
        self.dtype = dtype
        self.eps = eps = float(parts.config.rms_norm_eps)
        self.axes, self.deepstack = parts.axes, parts.deepstack
        self.layers = nn.ModuleList(DecoderLayer(layer, shape, eps, dtype) for layer in parts.layers)
        # The norm in front of each attention, then the final one: norm i closes block i - 1.
        norms = [layer.input_layernorm for layer in parts.layers] + [parts.norm]
        self.norms = nn.ParameterList(_frozen(norm.weight, dtype) for norm in norms)
        head = Matrix((parts.head,), dtype)
        self.lm_head = _packed(head)
        self.matrices: dict[str, Weight] = {"lm_head": head}
        """The large weights by the names of their parameters, which are on the meta device when they are not
        in memory."""
        for i, layer in enumerate(self.layers):
            named: Any = layer.matrices
            self.matrices |= {f"layers.{i}.{name}": matrix for name, matrix in named.items()}
        self.register_buffer("pair_axes", torch.tensor(parts.pair_axes) if parts.pair_axes else None)
        cos, sin = rotary_tables(self.shape)
        self.register_buffer("cos", cos.to(dtype))
        self.register_buffer("sin", sin.to(dtype))

    def input_names(self) -> list[str]:
        cache = [f"past_{kv}.{i}" for i in range(self.shape.num_layers) for kv in "kv"]
        deepstack = ["deepstack"] if self.deepstack else []
        rows = [LOGIT_ROWS] if self.chooses_rows else []
        return ["inputs_embeds", "position_ids", "write_index", *cache, *deepstack, *rows]

    def output_names(self) -> list[str]:
        return ["logits", *self.lowering.output_names(self.shape.num_layers)]

    def example_inputs(self, length: int = 3) -> tuple[Any, ...]:
        """Arguments of :meth:`forward` of the right shapes, for a chunk of ``length`` after two rows."""
        s = self.shape
        rows = (1, s.num_kv_heads, s.context_rows, s.head_dim)
        cache = [torch.zeros(rows, dtype=self.dtype) for _ in range(2 * s.num_layers)]
        inputs = (
            torch.zeros(1, length, s.hidden_size),
            torch.arange(2, 2 + length).repeat(self.axes, 1, 1),
            torch.tensor([2]),
            cache,
        )
        deepstack = torch.zeros(self.deepstack, 1, length, s.hidden_size) if self.deepstack else None
        if self.chooses_rows:
            return (*inputs, deepstack, torch.arange(length - 2, length))
        return (*inputs, deepstack) if self.deepstack else inputs

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        write_index: Tensor,
        cache: list[Tensor],
        deepstack: Tensor | None = None,
        logit_rows: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """``inputs_embeds`` [1, S, D] float32; ``position_ids`` [1, 1, S], or [3, 1, S] with M-RoPE;
        ``write_index`` [1]; ``cache``: keys and values of each layer in turn, [1, K, C, Dh] each;
        ``deepstack`` [n, 1, S, D] float32: added after each of the first n layers, zeros where there is no
        image; ``logit_rows`` [R]: positions in the chunk whose logits are wanted, None for the last.

        Returns logits [R, vocab] float32 and what the lowering gives.
        """
        chunk = Chunk(write_index, position_ids, self.cos, self.sin, self.pair_axes)
        shared = self.lowering.start(chunk, self.shape)
        written: list[tuple[Tensor, Tensor]] = []
        residual = inputs_embeds.to(self.dtype)
        x = rms_norm(residual, self.norms[0], self.eps)
        layer: Any
        for i, layer in enumerate(self.layers):
            past_k, past_v = cache[2 * i : 2 * i + 2]
            qkv = layer.queries_keys_values(x)
            x, k, v = self.lowering.attention(qkv, past_k, past_v, shared, self.shape)
            written.append((k, v))
            if i == len(self.layers) - 1:
                # Nothing after the last attention looks at other positions: go on with the wanted ones alone.
                x, residual = _chosen(x, logit_rows), _chosen(residual, logit_rows)
            x = torch.matmul(x, layer.out)
            x, residual = self.lowering.add_norm(x, residual, layer.mlp_norm, self.eps)
            x = layer.mlp(x)
            if deepstack is not None and i < self.deepstack:
                added = deepstack[i].to(self.dtype)
                last = i == len(self.layers) - 1
                x = x + (_chosen(added, logit_rows) if last else added)
            x, residual = self.lowering.add_norm(x, residual, self.norms[i + 1], self.eps)
        logits = torch.matmul(x[0], self.lm_head).float()
        return logits, *self.lowering.outputs(written)


def _packed(matrix: Matrix) -> nn.Parameter:
    weights: Any = [module.weight for module in matrix.modules]
    return _frozen(torch.cat(list(weights)).T, matrix.dtype)


def _chosen(x: Tensor, rows: Tensor | None) -> Tensor:
    """Positions of ``x`` [1, S, D]: the last one, or those of ``rows`` [R]."""
    return x[:, -1:] if rows is None else x.index_select(1, rows)


def _frozen(weight: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(weight.detach().to(dtype).contiguous().clone(), requires_grad=False)
