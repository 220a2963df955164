"""Rotary positions where a slot's index is not one: M-RoPE, in which frames spread over height and width.

Each token has three positions: time, height, width. Text moves all three on by one. A frame stands at one
time, its rows and columns count up from there, and what follows goes on after its longer side (Qwen2-VL,
arXiv 2409.12191, section 2.1). So a frame of 8 x 8 tokens takes 64 slots of the cache, but 8 positions.

All slots that move in an eviction go back by the same number on all three axes, so a single rotation per
range is enough for their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.window import Move


class MRopePositions:
    """Positions of one cache. ``grid``: rows and columns of a frame's tokens.

    Slots that are placed again, because they were never committed, take their new positions.
    """

    def __init__(self, capacity: int, image_id: int, grid: tuple[int, int]) -> None:
        self._image_id = image_id
        self._tokens, self._step = grid[0] * grid[1], max(grid)
        place = np.arange(self._tokens)
        # What a token of a frame adds to the frame's own position on each axis.
        self._spread = np.stack([0 * place, place // grid[1], place % grid[1]])  # [3, V]
        self._next = np.zeros(capacity + 1, dtype=np.int64)  # where the token goes that follows so many slots

    def place(self, ids: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """Positions [3, S] of ``ids`` [S] at slots ``start ..``. Raises ValueError for part of a frame."""
        image = ids == self._image_id
        if np.count_nonzero(image) % self._tokens:
            raise ValueError(f"append: a frame is {self._tokens} tokens, and part of one is there")
        rank = (np.cumsum(image) - 1) % self._tokens  # place within its frame
        last = image & (rank == self._tokens - 1)
        steps = np.where(image, np.where(last, self._step, 0), 1)
        after = self._next[start] + np.cumsum(steps)
        self._next[start + 1 : start + 1 + len(ids)] = after
        positions: NDArray[np.int64] = (after - steps) + np.where(image, self._spread[:, rank], 0)
        return positions

    def rotated(self, moves: Sequence[Move]) -> tuple[list[Move], NDArray[np.int64]]:
        """``moves`` with their position deltas, and what :meth:`take` takes once the slots have moved."""
        after, rotated = self._next.copy(), []
        for move in moves:
            delta = int(after[move.target] - after[move.source])
            source = after[move.source + 1 : move.source + 1 + move.slots]
            after[move.target + 1 : move.target + 1 + move.slots] = source + delta
            rotated.append(replace(move, delta=delta))
        return rotated, after

    def take(self, after: NDArray[np.int64]) -> None:
        """The slots have moved to where :meth:`rotated` put them."""
        self._next = after
