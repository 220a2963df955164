"""Rotary positions where a row's index is not one: M-RoPE, in which pictures spread over height and width.

Each token has three positions: time, height, width. Text moves all three on by one. A picture stands at one
time, its rows and columns count up from there, and what follows goes on after its longer side (Qwen2-VL,
arXiv 2409.12191, section 2.1). So a picture of 8 x 8 tokens takes 64 rows of the cache, but 8 positions.

All rows that move in an eviction go back by the same number on all three axes, so a single turn per range is
enough for their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.window import Move


class MRopePositions:
    """Positions of one cache. ``grid``: rows and columns of a picture's tokens.

    Rows that are placed again, because they were never committed, take their new positions.
    """

    def __init__(self, capacity: int, image_id: int, grid: tuple[int, int]) -> None:
        self._image_id = image_id
        self._tokens, self._step = grid[0] * grid[1], max(grid)
        place = np.arange(self._tokens)
        # What a token of a picture adds to the picture's own position on each axis.
        self._spread = np.stack([0 * place, place // grid[1], place % grid[1]])  # [3, V]
        self._next = np.zeros(capacity + 1, dtype=np.int64)  # where the token goes that follows so many rows

    def place(self, ids: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """Positions [3, S] of ``ids`` [S] at rows ``start ..``. Raises ValueError for part of a picture."""
        image = ids == self._image_id
        if np.count_nonzero(image) % self._tokens:
            raise ValueError(f"append: a picture is {self._tokens} tokens, and part of one is there")
        rank = (np.cumsum(image) - 1) % self._tokens  # place within its picture
        last = image & (rank == self._tokens - 1)
        steps = np.where(image, np.where(last, self._step, 0), 1)
        after = self._next[start] + np.cumsum(steps)
        self._next[start + 1 : start + 1 + len(ids)] = after
        positions: NDArray[np.int64] = (after - steps) + np.where(image, self._spread[:, rank], 0)
        return positions

    def turned(self, moves: Sequence[Move]) -> tuple[list[Move], NDArray[np.int64]]:
        """``moves`` with the turns of their keys, and what :meth:`take` takes once the rows have moved."""
        after, turned = self._next.copy(), []
        for move in moves:
            turn = int(after[move.target] - after[move.source])
            source = after[move.source + 1 : move.source + 1 + move.rows]
            after[move.target + 1 : move.target + 1 + move.rows] = source + turn
            turned.append(replace(move, turn=turn))
        return turned, after

    def take(self, after: NDArray[np.int64]) -> None:
        """The rows have moved."""
        self._next = after
