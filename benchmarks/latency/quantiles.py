"""Timings in short: how many, the quartiles, and the tail as far as the count carries it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TAIL_NEEDS = 1000
"""p99 of fewer samples is a handful of outliers and no statistic."""


def summarise(values: Sequence[float]) -> dict[str, float | int | None]:
    """n, p25, p50, p75, p90, p99 and max in the unit of ``values``; None for what was not measured."""
    if not len(values):
        return {"n": 0, "p50": None}
    p25, p50, p75, p90, p99 = np.percentile(values, [25, 50, 75, 90, 99])
    summary: dict[str, float | int | None] = {
        "n": len(values),
        "p25": p25,
        "p50": p50,
        "p75": p75,
        "p90": p90,
    }
    summary["p99"] = p99 if len(values) >= TAIL_NEEDS else None
    summary["max"] = max(values)
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in summary.items()}
