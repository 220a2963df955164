"""Streaming with plain PyTorch in fp32: what the exported graphs are measured against.

It shares no code with the runtime: attention, rotation and masks are those of transformers, and rows are
evicted by selecting the kept ones and turning their keys. Also the baseline of latency comparisons, either
with the growing cache that transformers offers or with buffers allocated once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.cache_utils import Cache, DynamicLayer

from edge_runtime.kv_cache.window import EvictionPlan
from train.models.cache_argument import CACHE_ARGUMENT


class _PreallocatedLayer(DynamicLayer):
    """Keys and values in buffers of ``capacity`` rows; what attention reads are views of the rows in use."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if stop > self._capacity:
            raise ValueError(f"{stop} rows do not fit in a cache of {self._capacity}")
        if self._buffers is None:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:-2], self._capacity, key_states.shape[-1])
            self._buffers = key_states.new_empty(shape), value_states.new_empty(shape)
        keys, values = self._buffers
        keys[:, :, start:stop] = key_states
        values[:, :, start:stop] = value_states
        self.keys, self.values = keys[:, :, :stop], values[:, :, :stop]
        return self.keys, self.values

    def keep(self, keys: Tensor, values: Tensor) -> None:
        """Let the cache hold these rows and no others; they are copies, not views of the buffers."""
        if self._buffers is not None:
            rows = keys.shape[-2]
            for buffer, kept in zip(self._buffers, (keys, values), strict=True):
                buffer[:, :, :rows] = kept
            self.keys, self.values = (buffer[:, :, :rows] for buffer in self._buffers)


class _GrowingLayer(DynamicLayer):
    """The layer of transformers: every append copies all keys and values into a tensor one chunk longer."""

    def keep(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values


class TorchStreamingDecoder:
    """One stream's decoder over a ``LlamaForCausalLM``, which it does not change.

    ``capacity``: allocate buffers of so many rows once; None: let the cache grow.
    A row's index is its rotary position: rows are contiguous from 0, also after an eviction.
    """

    def __init__(self, decoder: LlamaForCausalLM, *, capacity: int | None = None) -> None:
        self._decoder = decoder.eval()
        self._capacity = capacity
        config: Any = decoder.config
        head_dim = config.head_dim or config.hidden_size // config.num_attention_heads
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        self._frequencies = config.rope_parameters["rope_theta"] ** -exponents  # [Dh / 2], radians a position
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        count = self._decoder.config.num_hidden_layers
        make = _GrowingLayer if self._capacity is None else lambda: _PreallocatedLayer(self._capacity)
        self._layers: list[Any] = [make() for _ in range(count)]
        self._cache = Cache(layers=self._layers)

    @property
    def rows(self) -> int:
        """Rows in use."""
        return int(self._layers[0].get_seq_length())

    @torch.inference_mode()
    def append(self, embeddings: Tensor) -> Tensor:
        """Append [S, D] and return the logits after the last position, [vocab]."""
        start = self.rows
        output = self._decoder(
            inputs_embeds=embeddings[None],
            position_ids=torch.arange(start, start + len(embeddings), device=embeddings.device)[None],
            **{CACHE_ARGUMENT: self._cache},
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[0, -1]

    @torch.inference_mode()
    def evict(self, kept: Sequence[tuple[int, int]]) -> None:
        """Drop all rows but those in ``kept``: ascending, disjoint ranges (first row, row after the last).

        The kept rows close up, and each key turns from its old position to its new one.
        Raises ValueError for ranges that are not ascending or lie outside the rows in use.
        """
        bounds = [bound for pair in kept for bound in pair]
        if bounds != sorted(bounds) or (bounds and not 0 <= bounds[0] <= bounds[-1] <= self.rows):
            raise ValueError(f"kept ranges {list(kept)} of {self.rows} rows")
        old = torch.cat([torch.arange(a, b) for a, b in kept]) if kept else torch.arange(0)
        turn = torch.outer((torch.arange(len(old)) - old).double(), self._frequencies)  # [rows, Dh / 2]
        cos, sin = turn.cos().float(), turn.sin().float()
        for layer in self._layers:
            if not layer.is_initialized:
                continue
            first, second = layer.keys[:, :, old].chunk(2, dim=-1)
            keys = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
            layer.keep(keys, layer.values[:, :, old])

    def cached(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keys and values of all rows, [L, Hkv, rows, Dh] each."""
        keys, values = (
            np.stack([getattr(layer, kind)[0].float().numpy() for layer in self._layers])
            for kind in ("keys", "values")
        )
        return keys, values

    def truncate(self, rows: int) -> None:
        """Forget every row from ``rows`` on."""
        self.evict([(0, rows)])


@torch.inference_mode()
def full_logits(decoder: LlamaForCausalLM, embeddings: Tensor) -> Tensor:
    """Without any cache: [T, D] of a whole stream -> logits of every position, [T, vocab]."""
    return decoder(inputs_embeds=embeddings[None], use_cache=False).logits[0]


def kept_ranges(plan: EvictionPlan) -> list[tuple[int, int]]:
    """Return the rows that an eviction keeps: ascending ranges (first row, row after the last)."""
    moves = plan.moves
    unmoved = moves[0].target if moves else plan.slots
    return [(0, unmoved), *((move.source, move.source + move.slots) for move in moves)]
