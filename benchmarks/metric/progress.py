"""How far a long loop is: a bar with figures, rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

LINE_EVERY_S = 30.0
"""Pause between lines where nobody watches a terminal; the first step has one at once."""


class Progress:
    """Counts the steps of a loop. Use as a context manager.

    ``done``: steps of an earlier run that this one goes on from. ``work``: of all steps together, where steps
    differ in length, such as seconds of video; time left follows from it. ``shown``: False in the ranks of a
    distributed run that stay silent. ``patient``: no line at the start and the end, for loops
    that may take a moment only. Lines of one's own beside it: :func:`say`.
    """

    def __init__(
        self,
        total: int,
        name: str,
        *,
        unit: str = "step",
        done: int = 0,
        work: float | None = None,
        shown: bool = True,
        patient: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._total, self._name, self._unit = total, name, unit
        self._done = self._first = done
        self._work, self._worked = work, 0.0
        self._shown = shown
        self._started = time.monotonic()
        self._patient = patient
        self._said_at, self._said = self._started if patient else -LINE_EVERY_S, done
        self._text = ""
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=name,
            unit=unit,
            file=self._stream,
            disable=not (shown and self._stream.isatty()),
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]",
            dynamic_ncols=True,
            leave=False,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(
        self, steps: int = 1, *, work: float = 0.0, limit_s: float | None = None, **figures: float
    ) -> None:
        """Count ``steps`` more, which were ``work``.

        ``figures``: what to show beside them, such as the loss. ``limit_s``: the loop ends after so many
        seconds more, whatever is done.
        """
        self._done += steps
        self._worked += work
        now = time.monotonic()
        parts = [f"{name} {value:.4g}" for name, value in figures.items()]
        self._text = "  ".join([*parts, f"{self._left_s(now, limit_s) / 60:.1f} min left"])
        self._bar.set_postfix_str(self._text, refresh=False)
        self._bar.update(steps)
        if (self._done == self._total and not self._patient) or now - self._said_at >= LINE_EVERY_S:
            self._line(now)

    def close(self) -> None:
        if self._done != self._said and not self._patient:
            self._line(time.monotonic())
        self._bar.close()

    def _left_s(self, now: float, limit_s: float | None) -> float:
        done, left = float(self._done - self._first), float(self._total - self._done)
        if self._work is not None:
            done, left = self._worked, self._work - self._worked
        left = (now - self._started) / done * left if done else 0.0
        return max(0.0, left if limit_s is None else min(left, limit_s))

    def _line(self, now: float) -> None:
        self._said_at, self._said = now, self._done
        if self._shown and self._bar.disable:
            rate = (self._done - self._first) / max(now - self._started, 1e-9)
            line = f"{self._name} {self._done}/{self._total}  {rate:.3g} {self._unit}/s  {self._text}"
            print(line, file=self._stream, flush=True)


def say(text: str) -> None:
    """A line on stderr; bars stay below it."""
    tqdm.write(text, file=sys.stderr)
