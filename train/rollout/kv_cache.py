"""Keys and values of many rows that grow at different speeds, for rollouts in lock-step.

Rows are contiguous from 0 each, whatever the others hold: a chunk is padded on the right, its padding is
written behind the row's end and overwritten by the row's next chunk. So nothing is wasted on holes, and a
row that does not speak costs nothing while others do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_BLOCK = 256


@dataclass
class _Pass:
    """What the running forward pass appends: ``rows`` [A], ``slots`` [A, T]; ``length`` of the longest."""

    rows: Tensor
    slots: Tensor
    length: int
    everyone: bool


class RowCache(Cache):
    """A cache of ``rows`` rows. Call :meth:`begin` before each forward pass and :meth:`commit` after it."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.used = torch.zeros(rows, dtype=torch.long, device=device)
        """[rows]: tokens in the cache."""
        self._all = torch.arange(rows, device=device)
        self._pass = _Pass(self._all, self._all[:, None], 0, True)
        layer: Any = partial(_RowLayer, rows, self._pass)
        super().__init__(layer_class_to_replicate=layer)

    def begin(self, rows: Tensor, width: int) -> Tensor:
        """The next pass appends ``width`` tokens, padding included, to each of ``rows`` [A].

        Returns the pass's attention mask, bool [A, 1, width, S]: a token sees its own row up to itself.
        """
        now = self._pass
        now.rows, now.everyone = rows, torch.equal(rows, self._all)
        now.slots = self.used[rows][:, None] + torch.arange(width, device=rows.device)  # [A, T]
        now.length = int(now.slots.max()) + 1
        seen = torch.arange(now.length, device=rows.device) <= now.slots[:, :, None]  # [A, T, S]
        return seen[:, None]

    def commit(self, rows: Tensor, counts: Tensor) -> None:
        """Keep the first ``counts`` [A] tokens that the last pass appended to ``rows`` [A]."""
        self.used[rows] += counts


class _RowLayer(DynamicLayer):
    """Buffers of all rows, [rows, Hkv, capacity, Dh]."""

    def __init__(self, rows: int, now: _Pass) -> None:
        super().__init__()
        self._rows, self._pass = rows, now
        self.keys: Any
        self.values: Any

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """[A, Hkv, T, Dh] in; keys and values of the pass's rows out, [A, Hkv, S, Dh]."""
        now = self._pass
        self._reserve(value_states, now.length)
        rows = now.rows[:, None]
        # Under autocast rotated keys are float32, but attention would cast them anyway: once is enough.
        self.keys[rows, :, now.slots] = key_states.transpose(1, 2).to(self.keys.dtype)
        self.values[rows, :, now.slots] = value_states.transpose(1, 2)
        keys, values = self.keys[:, :, : now.length], self.values[:, :, : now.length]
        return (keys, values) if now.everyone else (keys[now.rows], values[now.rows])

    def _reserve(self, like: Tensor, length: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(like, like)
            self.keys = self.values = like.new_zeros(self._rows, like.shape[1], 0, like.shape[3])
        room = self.keys.shape[2]
        if room < length:
            more = -(-max(length - room, room // 2) // _BLOCK) * _BLOCK
            # Zeros, not whatever memory holds: a masked NaN would still be a NaN.
            empty = like.new_zeros(self._rows, like.shape[1], more, like.shape[3])
            self.keys, self.values = torch.cat([self.keys, empty], 2), torch.cat([self.values, empty], 2)
