"""The learning rate's course: a warm-up, then a cosine over steps or, with a time limit, over time."""

from __future__ import annotations

import math
import time


class TimedCosine:
    """Factor of the peak learning rate by step: linear warm-up, then a cosine over the share that has passed.

    That share is the larger of steps done and, with a time limit, of time spent, so training that is stopped
    by the clock has had its whole schedule. ``spent`` (seconds) is saved and restored with the scheduler.
    """

    def __init__(self, steps: int, warmup: int, final: float, limit_s: float) -> None:
        self.steps, self.warmup, self.final, self.limit_s = steps, warmup, final, limit_s
        self.spent = 0.0
        self._last: float | None = None

    def __call__(self, step: int) -> float:
        share = max(step / max(1, self.steps), self.spent / self.limit_s if self.limit_s else 0.0)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
        return min(1.0, (step + 1) / max(1, self.warmup)) * (self.final + (1.0 - self.final) * cosine)

    @property
    def over(self) -> bool:
        return bool(self.limit_s) and self.spent >= self.limit_s

    def start(self) -> None:
        """Time counts from now: called when training starts or goes on, after ``spent`` was restored."""
        self._last = time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        self.spent += now - (self._last if self._last is not None else now)
        self._last = now
