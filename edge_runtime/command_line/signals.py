"""Signals of the system, handled for a while: end a run, or read its configuration again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def stop_on_signals(stop: Callable[[str], None]) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM call ``stop`` and are noted in the list; a second one ends the process at once."""
    received: list[int] = []

    def handle(number: int, _frame: Any) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        stop("stopped by Ctrl-C" if number == signal.SIGINT else "stopped by SIGTERM")

    with handling(handle, signal.SIGINT, signal.SIGTERM):
        yield received


@contextmanager
def reload_on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """SIGHUP calls ``reload``, unless the terminal has really been hung up: then the process ends as ever.

    Under ``nohup`` the signal stays ignored.
    """
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    had_terminal = _has_terminal()

    def handle(number: int, _frame: Any) -> None:
        if had_terminal and not _has_terminal():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            reload()

    with handling(handle, signal.SIGHUP):
        yield


@contextmanager
def handling(handle: Callable[[int, Any], None], *numbers: int) -> Iterator[None]:
    """Call ``handle`` for these signals; afterwards they do again what they did before."""
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            with suppress(ValueError, TypeError):  # a handler not set from Python cannot be put back
                signal.signal(number, handler)


def _has_terminal() -> bool:
    """Whether this process still has a controlling terminal; a terminal that was closed is gone."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
