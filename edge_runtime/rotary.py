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

_BLOCK_ROWS = 512
"""Rows of one layer turned at a time: what is computed in between stays in a core's cache."""


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

    ``keys`` and ``values`` [..., Hkv, C, Dh]; float32 or float16 (turned in float32). Keys are in the
    half-split layout of Llama: dimension i is paired with i + Dh / 2.
    """
    heads, _, width = keys.shape[-3:]
    half = width // 2
    # Buffers of one block, kept for all: fresh memory would cost more than the arithmetic.
    first, second, x, product = (np.empty((heads, _BLOCK_ROWS, half), np.float32) for _ in range(4))
    moved = np.empty((heads, _BLOCK_ROWS, width), values.dtype)
    for move in moves:
        angle = move.shift * frequencies
        # A row of its own for each of the block's rows: long runs of plain products, not many short ones.
        cos = np.tile(np.cos(angle).astype(np.float32), (_BLOCK_ROWS, 1))
        sin = np.tile(np.sin(angle).astype(np.float32), (_BLOCK_ROWS, 1))
        for layer in np.ndindex(*keys.shape[:-3]):
            # Downwards and ascending: a block is read in full before it is written, and never written before
            # read.
            for start in range(0, move.rows, _BLOCK_ROWS):
                rows = slice(0, min(_BLOCK_ROWS, move.rows - start))
                source = slice(move.source + start, move.source + start + rows.stop)
                target = slice(move.target + start, move.target + start + rows.stop)
                a, b, p = first[:, rows], second[:, rows], product[:, rows]
                a[...], b[...] = keys[layer][:, source, :half], keys[layer][:, source, half:]
                turned = np.multiply(a, cos[rows], out=x[:, rows])
                turned -= np.multiply(b, sin[rows], out=p)
                keys[layer][:, target, :half] = turned
                turned = np.multiply(b, cos[rows], out=x[:, rows])
                turned += np.multiply(a, sin[rows], out=p)
                keys[layer][:, target, half:] = turned
                moved[:, rows] = values[layer][:, source]
                values[layer][:, target] = moved[:, rows]
