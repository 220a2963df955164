"""Ctrl-C in the middle of a training: finish the step, save, leave."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

from edge_runtime.command_line.signals import handling

ECHO_S = 2.0
"""A second interrupt this soon is the first one's echo: a launcher hands on what the terminal sent to all."""


class Interrupt:
    """While open, the first SIGINT or SIGTERM sets ``asked`` and logs it; a later one interrupts at
    once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = False
        self._say = say
        self._when = -math.inf
        self._handlers = ExitStack()

    def __enter__(self) -> Interrupt:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> None:
        self._handlers.enter_context(handling(self._on_signal, signal.SIGINT, signal.SIGTERM))

    def close(self) -> None:
        self._handlers.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._when > ECHO_S:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._when = True, now
            self._say("stopping after this step; interrupt again to stop at once")
