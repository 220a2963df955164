"""Warm-up until steady: the numbers of a cold start are another measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

BLOCK = 20
"""Steps per median."""
BLOCKS = 3
"""So many medians in a row must agree."""
TOLERANCE = 0.10


@dataclass(frozen=True)
class WarmUp:
    steps: int
    seconds: float
    steady: bool
    """False: the time ran out before the medians agreed."""
    last_medians_ms: tuple[float, ...]


def warm_up(
    step: Callable[[], float], least: int, most_s: float, clock: Callable[[], float], done: int = 0
) -> WarmUp:
    """Run ``step`` (it returns its milliseconds) until the medians of three blocks in a row lie within 10 %.

    ``least``: steps that must have run in any case, ``done`` of which have. Ends unsteady after ``most_s``,
    but never before ``least``: a cache that is not full would grow during the measurement.
    """
    begin, steps = clock(), done
    medians: list[float] = []
    while True:
        medians.append(median(step() for _ in range(BLOCK)))
        steps += BLOCK
        last = tuple(medians[-BLOCKS:])
        agree = len(last) == BLOCKS and max(last) <= min(last) * (1 + TOLERANCE)
        if steps >= least and (agree or clock() - begin >= most_s):
            return WarmUp(steps, clock() - begin, agree, last)
