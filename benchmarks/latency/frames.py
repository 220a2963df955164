"""Frames for measurements: another one in every step, because a repeated frame stays warm in the
caches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Frames:
    """``frames(k)``: uint8 [height, width, 3], smooth noise that moves; the same for the same ``k``."""

    def __init__(self, size: tuple[int, int], pool: int = 32) -> None:
        height, width = size
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (pool, -(-height // 16), -(-width // 16), 3), dtype=np.uint8)
        self._pool = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]

    def __call__(self, k: int) -> NDArray[np.uint8]:
        frame: NDArray[np.uint8] = np.roll(
            self._pool[k % len(self._pool)], (k // len(self._pool), 3 * k), axis=(0, 1)
        )
        return frame
