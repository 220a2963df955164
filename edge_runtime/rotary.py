"""Moving cached rows to new positions: values are copied, keys are turned as well.

A cached key holds ``R(p) k`` for its position p. Rotations add up, so ``R(q - p)`` makes it ``R(q) k``, in
float32, without the model. A turn is moved window_turns / evict_turns times at most before it leaves, so
rounding does not pile up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.window import Move

_BLOCK_ROWS = 128
"""Rows turned at a time: the temporaries of one block stay in a core's cache."""


def inverse_frequencies(head_dim: int, theta: float) -> NDArray[np.float64]:
    """Radians per position of each rotated pair, [head_dim / 2]."""
    return float(theta) ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)


def move_rows(
    keys: NDArray[np.floating],
    values: NDArray[np.floating],
    moves: Sequence[Move],
    frequencies: NDArray[np.float64],
) -> None:
    """Do ``moves`` in place, in their order.

    ``keys`` and ``values`` [..., C, Dh]: layers and heads first; float32 or float16 (turned in float32).
    Keys are in the half-split layout of Llama: dimension i is paired with i + Dh / 2.
    """
    half = keys.shape[-1] // 2
    for move in moves:
        angle = move.shift * frequencies
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        # Downwards and ascending: a block is read in full before it is written, and never written before
        # read.
        for start in range(0, move.rows, _BLOCK_ROWS):
            rows = min(_BLOCK_ROWS, move.rows - start)
            source = slice(move.source + start, move.source + start + rows)
            target = slice(move.target + start, move.target + start + rows)
            first = keys[..., source, :half].astype(np.float32)  # copies: the ranges may overlap
            second = keys[..., source, half:].astype(np.float32)
            keys[..., target, :half] = first * cos - second * sin
            keys[..., target, half:] = second * cos + first * sin
            values[..., target, :] = values[..., source, :]  # numpy buffers overlapping ranges itself
