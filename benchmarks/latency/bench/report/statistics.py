"""Samples to the numbers of a report. What was not measured says so; it is never 0."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.latency.bench.load.run import Run
from benchmarks.latency.bench.load.watcher import STAGES, Sample
from benchmarks.latency.quantiles import summarise

NOT_MEASURED = "not measured"
_BINS = 120
"""At most so many points on the timeline."""
_BUCKETS_PER_DECADE = 20


def statistic(values: Sequence[float]) -> dict[str, float | int | str]:
    """n, mean, p50, p90, p99 (only of 1000 values and more) and max; ``not measured`` for what is missing."""
    figures = summarise(values)
    row: dict[str, float | int | str] = {"n": len(values)}
    row["mean"] = round(float(np.mean(values)), 3) if len(values) else NOT_MEASURED
    for key in ("p50", "p90", "p99", "max"):
        value = figures.get(key)
        row[key] = NOT_MEASURED if value is None else value
    return row


def histogram(values: Sequence[float]) -> dict[str, list[float]]:
    """Counts in buckets of equal width on a logarithmic scale: one more of ``edges_ms`` than ``counts``."""
    positive = [value for value in values if value > 0]
    if not positive:
        return {"edges_ms": [], "counts": []}
    low = math.floor(math.log10(min(positive)) * _BUCKETS_PER_DECADE)
    high = math.floor(math.log10(max(positive)) * _BUCKETS_PER_DECADE) + 1
    edges = [10 ** (step / _BUCKETS_PER_DECADE) for step in range(low, high + 1)]
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(places, minlength=len(edges) - 1)
    return {"edges_ms": [float(f"{edge:.5g}") for edge in edges], "counts": counts.tolist()}


def stages(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """Milliseconds per stage, in the stages' order, of the frames that had the stage."""
    return {
        name: [sample.stages_ms[name] for sample in samples if name in sample.stages_ms] for name in STAGES
    }


def shares(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean milliseconds of each stage over all frames, 0 where a frame had none: they add up to the mean."""
    count = max(1, len(samples))
    return {name: round(sum(values) / count, 4) for name, values in stages(samples).items()}


def timeline(run: Run) -> list[dict[str, Any]]:
    """The run in equal parts of a second or more: medians, maxima, counts, memory."""
    seconds = max(1, math.ceil(run.duration_s / _BINS))
    rows = []
    for part in range(max(1, math.ceil(run.duration_s / seconds))):
        begin = run.start + part * seconds
        inside = [s.decision_ms for s in run.samples if begin <= s.due < begin + seconds]
        held = [mb for at, mb in run.resident if begin <= at < begin + seconds]
        rows.append(
            {
                "t_s": part * seconds,
                "p50_ms": round(float(np.median(inside)), 3) if inside else NOT_MEASURED,
                "max_ms": round(max(inside), 3) if inside else NOT_MEASURED,
                "processed": len(inside),
                "dropped": sum(begin <= due < begin + seconds for _, due in run.dropped),
                "rss_mb": round(held[-1], 1) if held else NOT_MEASURED,
            }
        )
    return rows


def soak(run: Run, span_s: float = 60.0) -> dict[str, Any]:
    """The first ``span_s`` against the last (a third of the run each when it is a short one)."""
    span = min(span_s, run.duration_s / 3)
    end = run.start + run.duration_s
    first = [s.decision_ms for s in run.samples if s.due < run.start + span]
    last = [s.decision_ms for s in run.samples if s.due >= end - span]
    held = [mb for _, mb in run.resident]
    slowdown = float(np.median(last) / np.median(first)) if first and last else None
    return {
        "span_s": round(span, 3),
        "first_ms": statistic(first),
        "last_ms": statistic(last),
        "last_over_first_p50": round(slowdown, 4) if slowdown is not None else NOT_MEASURED,
        "rss_growth_mb": round(held[-1] - held[0], 2) if len(held) > 1 else NOT_MEASURED,
    }


def load_facts(run: Run) -> dict[str, Any]:
    """What was offered and what became of it."""
    processed = len(run.samples)
    pace = [b.decided - a.decided for a, b in itertools.pairwise(run.samples)]
    return {
        "offered": run.offered,
        "processed": processed,
        "dropped": len(run.dropped),
        "longest_drop_run": run.longest_drop_run,
        "deadline_ms": round(run.interval_ms, 3),
        "deadline_misses": run.misses,
        "timesteps_per_s": round(len(pace) / sum(pace), 3) if sum(pace) > 0 else NOT_MEASURED,
        "staleness_ms": statistic(run.staleness_ms()),
        "interrupted": run.interrupted,
        "cpu_s_per_stream_hour": _cpu_s_per_hour(run),
    }


def _cpu_s_per_hour(run: Run) -> float | str:
    """Seconds of processor time for each hour of one stream: a measure of energy where no sensor gives it."""
    watched_s = run.duration_s * run.streams
    if run.cpu_s is None or watched_s <= 0:
        return NOT_MEASURED
    return round(run.cpu_s / watched_s * 3600, 2)
