"""Latency histograms and counters of one stream, in memory that does not grow with the stream's length.

A :class:`Histogram` counts values in buckets whose bounds grow by 2 %, so a percentile is within 1 % of the
true one whatever the number of values. Exporting them (Prometheus) is left to whoever reads these classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_LOWEST_MS = 0.01
_GROWTH = 1.02
_BUCKETS = math.ceil(math.log(1e8) / math.log(_GROWTH))  # 0.01 ms to 1000 s
_LOG_GROWTH = math.log(_GROWTH)


class Histogram:
    """Durations in milliseconds: count, sum, exact minimum and maximum, percentiles to 1 %."""

    def __init__(self) -> None:
        self._counts = [0] * (_BUCKETS + 1)
        self.count = 0
        self.sum_ms = 0.0
        self.min_ms = math.inf
        self.max_ms = -math.inf

    def add(self, value_ms: float) -> None:
        """Count one duration. Values outside 0.01 ms .. 1000 s fall into the outermost buckets."""
        bucket = 0
        if value_ms > _LOWEST_MS:
            bucket = min(_BUCKETS, 1 + int(math.log(value_ms / _LOWEST_MS) / _LOG_GROWTH))
        self._counts[bucket] += 1
        self.count += 1
        self.sum_ms += value_ms
        self.min_ms = min(self.min_ms, value_ms)
        self.max_ms = max(self.max_ms, value_ms)

    def percentile(self, percent: float) -> float | None:
        """The value that ``percent`` % of the durations do not exceed (nearest rank); None without any."""
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must lie in 0..100, got {percent}")
        if self.count == 0:
            return None
        rank = max(1, math.ceil(self.count * percent / 100))
        if rank == self.count:
            return self.max_ms
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                middle = _LOWEST_MS * math.pow(_GROWTH, bucket - 0.5)
                return min(max(middle, self.min_ms), self.max_ms)
        raise AssertionError("the buckets hold every counted value")

    def cumulative(self, bounds_ms: Sequence[float]) -> tuple[list[int], int]:
        """How many durations lie at or below each of the ascending bounds (to 2 %), and how many there are.

        Both are of the same moment, also while another thread adds.
        """
        counts = self._counts.copy()
        totals, seen, bucket = [], 0, 0
        for bound in bounds_ms:
            while bucket <= _BUCKETS and _LOWEST_MS * math.pow(_GROWTH, bucket) <= bound * math.sqrt(_GROWTH):
                seen += counts[bucket]
                bucket += 1
            totals.append(seen)
        return totals, sum(counts)

    def merge(self, other: Histogram) -> None:
        """Count all that ``other`` counted."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.sum_ms += other.sum_ms
        self.min_ms = min(self.min_ms, other.min_ms)
        self.max_ms = max(self.max_ms, other.max_ms)

    def summary(self) -> dict[str, float | int]:
        """``{"n": ..}`` and, when there are values, ``p50 p90 p99 max`` in milliseconds."""
        result: dict[str, float | int] = {"n": self.count}
        for percent in (50, 90, 99):
            value = self.percentile(percent)
            if value is not None:
                result[f"p{percent}"] = round(value, 2)
        if self.count:
            result["max"] = round(self.max_ms, 2)
        return result


@dataclass
class Telemetry:
    """What one stream did so far. Latencies count from the moment the frame was handed over.

    That moment is the frame's capture for a live source and its leaving the decoder for a file.
    """

    timesteps: int = 0
    """Frames that were decided on."""
    skipped: int = 0
    """Timesteps without a frame: the stream had a gap, or a newer frame replaced the waiting one."""
    still: int = 0
    """Timesteps left out because the scene stood still."""
    responses: int = 0
    """Responses written to the sinks."""
    suppressed: dict[str, int] = field(default_factory=dict)
    """Responses held back, by the policy's reason."""
    decision: Histogram = field(default_factory=Histogram)
    """Frame to decision, one value per decision."""
    first_text: Histogram = field(default_factory=Histogram)
    """Frame to the first token of a response's text, one value per response."""
    stages: dict[str, Histogram] = field(default_factory=dict)
    """Share of each stage of a timestep: queue, preprocess, vision, append."""

    last_step: float | None = None
    """When the run's loop began its last step, on its own clock."""
    last_frame: float | None = None
    """When a frame was last decided on, or left out because the scene stood still."""
    ended: str = ""
    """``well`` or ``failed`` once the run of this stream is over."""

    def add_stage(self, name: str, value_ms: float) -> None:
        self.stages.setdefault(name, Histogram()).add(value_ms)

    def suppress(self, reason: str) -> None:
        self.suppressed[reason] = self.suppressed.get(reason, 0) + 1

    def counts(self) -> dict[str, Any]:
        """What was counted, for events and summaries."""
        return {
            "timesteps": self.timesteps,
            "skipped": self.skipped,
            "still": self.still,
            "responses": self.responses,
            "suppressed": dict(sorted(self.suppressed.items())),
        }

    def latencies(self) -> dict[str, Any]:
        """Summaries of the two latencies, in milliseconds."""
        return {"decision_ms": self.decision.summary(), "first_text_ms": self.first_text.summary()}


def total(streams: Iterable[Telemetry]) -> Telemetry:
    """What several streams did together."""
    result = Telemetry()
    for one in streams:
        result.timesteps += one.timesteps
        result.skipped += one.skipped
        result.still += one.still
        result.responses += one.responses
        for reason, count in one.suppressed.items():
            result.suppressed[reason] = result.suppressed.get(reason, 0) + count
        result.decision.merge(one.decision)
        result.first_text.merge(one.first_text)
        for name, histogram in one.stages.items():
            result.stages.setdefault(name, Histogram()).merge(histogram)
    return result
