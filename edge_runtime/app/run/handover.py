"""Calls of other threads, carried out by the thread that runs the model when nothing else is in its hands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from edge_runtime.errors import EdgeError
from edge_runtime.sinks import ReaderGoneError

_T = TypeVar("_T")

TIMEOUT_S = 30.0
"""A timestep with a response takes seconds at most on the slowest device."""
MOST_WAITING = 256


class Handover:
    """``call`` from any thread but that one; ``carry_out`` and ``close`` in it.

    ``wake`` is called, from any thread, when there is something to carry out.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._thread: int | None = None
        self._over = ""

    def call(self, action: Callable[[], _T], timeout_s: float = TIMEOUT_S) -> _T:
        """Have ``action`` carried out and return what it returns, or raise what it raises.

        Raises EdgeError when that does not happen in time, and from then on it will not.
        """
        if threading.get_ident() == self._thread:
            raise EdgeError("a receiver of events may not change the run; do that in another thread")
        future: Future[_T] = Future()
        with self._lock:
            if self._over:
                raise EdgeError(self._over)
            if len(self._waiting) >= MOST_WAITING:
                raise EdgeError(f"{MOST_WAITING} changes wait already; try again later")
            self._waiting.append((action, future))
        self._wake()
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            if future.cancel():
                raise EdgeError(
                    f"not done within {timeout_s:g} s, as the model was busy; try again later"
                ) from None
            return future.result()  # it is being carried out at this moment

    def carry_out(self) -> None:
        """Carry out what waits. Raises ReaderGoneError alone; other errors go to who called."""
        self._thread = threading.get_ident()
        while self._waiting:
            action, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = action()
            except ReaderGoneError:
                future.set_exception(EdgeError("the run ends: nobody reads its events any more"))
                raise
            except Exception as err:
                future.set_exception(err)
            else:
                future.set_result(result)

    def close(self, why: str) -> None:
        """Refuse what waits and what comes, with an EdgeError that says ``why``."""
        with self._lock:
            self._over = why
            waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(EdgeError(why))
