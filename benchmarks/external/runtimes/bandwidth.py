"""How fast this machine reads memory: the floor under every step, because a step reads each weight once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

MEGABYTES = 256
"""Read by each thread: beyond any cache."""


def read_gb_per_s(threads: int, rounds: int = 20) -> float:
    """GB/s (10^9 bytes) of all ``threads``: best of ``rounds`` passes over memory that no cache holds."""
    blocks = [np.ones(MEGABYTES * 1_000_000 // 8, dtype=np.int64) for _ in range(threads)]
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            begin = perf_counter()
            list(pool.map(np.bitwise_or.reduce, blocks))  # one instruction an element, and no lock is held
            best = min(best, perf_counter() - begin)
    return sum(block.nbytes for block in blocks) / best / 1e9
