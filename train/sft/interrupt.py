"""Ctrl-C in the middle of a training: finish the step, save, leave."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

ECHO_S = 2.0
"""A second interrupt this soon is the first one's echo: a launcher hands on what the terminal sent to all."""


class Interrupt:
    """While open, the first SIGINT or SIGTERM sets ``asked`` and tells so; a later one interrupts at
    once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = False
        self._say = say
        self._when = -math.inf
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)

    def close(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._when > ECHO_S:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._when = True, now
            self._say("stopping after this step; interrupt again to stop at once")
