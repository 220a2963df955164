"""The highest load that is carried: doubled until it is too much, then halved in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.latency.bench.load.run import Run
from benchmarks.latency.quantiles import TAIL_NEEDS


@dataclass(frozen=True)
class Trial:
    """One run of a search. ``tail`` is p99, or the maximum of fewer samples than p99 needs."""

    rate: float
    streams: int
    dropped: int
    n: int
    tail_ms: float | None
    tail: str
    carried: bool


def judge(run: Run) -> Trial:
    """Carried: no frame dropped, and p99 of frame to decision under the frame interval."""
    values = [sample.decision_ms for sample in run.samples]
    tail = "p99" if len(values) >= TAIL_NEEDS else "max"
    tail_ms = float(np.percentile(values, 99) if tail == "p99" else max(values)) if values else None
    carried = not run.dropped and not run.interrupted and tail_ms is not None and tail_ms < run.interval_ms
    rounded = None if tail_ms is None else round(tail_ms, 3)
    return Trial(run.rate, run.streams, len(run.dropped), len(values), rounded, tail, carried)


def highest(
    carried: Callable[[float], bool],
    first: float,
    most: float,
    close_enough: Callable[[float, float], bool],
    between: Callable[[float, float], float],
) -> float | None:
    """The highest value from ``first`` to ``most`` that is carried; None when not even ``first`` is.

    ``carried`` must be true below some value and false above it. ``close_enough(low, high)`` ends the search,
    ``between(low, high)`` is what is tried next.
    """
    if not carried(first):
        return None
    low = first
    while low < most:
        high = min(2 * low, most)
        if not carried(high):
            break
        low = high
    else:
        return low
    while not close_enough(low, high):
        middle = between(low, high)
        if carried(middle):
            low = middle
        else:
            high = middle
    return low


def highest_rate(carried: Callable[[float], bool], first: float, most: float) -> float | None:
    """Frames a second, to 3 %."""
    return highest(
        carried, first, most, lambda low, high: high <= low * 1.03, lambda low, high: (low * high) ** 0.5
    )


def highest_streams(carried: Callable[[int], bool], most: int) -> int | None:
    """Number of streams, exact."""
    found = highest(
        lambda streams: carried(int(streams)),
        1,
        most,
        lambda low, high: high - low <= 1,
        lambda low, high: (low + high) // 2,
    )
    return None if found is None else int(found)
