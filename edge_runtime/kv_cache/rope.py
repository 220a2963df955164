"""Rotating cached keys to other positions, without the model.

A cached key holds ``R(p) k`` for its position p. Rotations add up, so ``R(q - p)`` makes it ``R(q) k``. Keys
are in the half-split layout of Llama: dimension i is paired with i + Dh / 2, and the pair is treated as one
complex number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def inverse_frequencies(head_dim: int, theta: float) -> NDArray[np.float64]:
    """Radians per position of each rotated pair, [head_dim / 2]."""
    return float(theta) ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)


def rotations(deltas: NDArray[np.int64], frequencies: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Position deltas [n] -> factors [n, Dh / 2]; the angles are taken in float64."""
    distinct, places = np.unique(deltas, return_inverse=True)  # few: a slot's delta is its segment's
    factors: NDArray[np.complex64] = np.exp(1j * np.outer(distinct, frequencies)).astype(np.complex64)
    return factors[places]


def to_pairs(keys: NDArray[np.float32]) -> NDArray[np.complex64]:
    """[..., Dh] -> [..., Dh / 2]."""
    half = keys.shape[-1] // 2
    pairs = np.empty((*keys.shape[:-1], half), np.complex64)
    pairs.real, pairs.imag = keys[..., :half], keys[..., half:]
    return pairs


def from_pairs(pairs: NDArray[np.complex64], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """The reverse of :func:`to_pairs`, written into ``out`` where that is given."""
    half = pairs.shape[-1]
    keys = np.empty((*pairs.shape[:-1], 2 * half), np.float32) if out is None else out
    keys[..., :half], keys[..., half:] = pairs.real, pairs.imag
    return keys
