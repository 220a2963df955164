"""A number drawn into a frame as 32 black or white blocks, readable after coding and scaling."""

from __future__ import annotations

import numpy as np

ROWS, COLUMNS = 4, 8
BLACK, WHITE = 32, 224


def draw(number: int, width: int, height: int) -> np.ndarray:
    """``uint8 [height, width]`` luma with the low 32 bits of ``number``."""
    bits = (number >> np.arange(32, dtype=np.uint64)) & 1
    blocks = np.where(bits, WHITE, BLACK).astype(np.uint8).reshape(ROWS, COLUMNS)
    return np.kron(blocks, np.ones((height // ROWS, width // COLUMNS), np.uint8))


def read(image: np.ndarray, width: int, height: int) -> int:
    """The number in a letterboxed RGB ``image`` of a frame that was ``width`` x ``height``."""
    side_h, side_w = image.shape[:2]
    scale = min(side_w / width, side_h / height)
    left, top = (side_w - width * scale) / 2, (side_h - height * scale) / 2
    xs = (left + width * scale * (np.arange(COLUMNS) + 0.5) / COLUMNS).astype(int)
    ys = (top + height * scale * (np.arange(ROWS) + 0.5) / ROWS).astype(int)
    bits = image[ys][:, xs].mean(-1).reshape(-1) > 127
    return int((bits.astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum())
