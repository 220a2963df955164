"""Hands events to their subscribers as they happen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Feed(Generic[_T]):
    """Any number of receivers. Each is called in the thread that publishes, so it must not block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._receivers: tuple[Callable[[_T], object], ...] = ()

    def subscribe(self, receive: Callable[[_T], object]) -> Callable[[], None]:
        """Call ``receive`` with all that is published from now on. Returns a function that ends that."""

        def receiver(item: _T) -> None:  # of its own, so that one function may subscribe twice
            receive(item)

        with self._lock:
            self._receivers = (*self._receivers, receiver)

        def unsubscribe() -> None:
            with self._lock:
                self._receivers = tuple(one for one in self._receivers if one is not receiver)

        return unsubscribe

    def publish(self, item: _T) -> None:
        """Call every receiver. An error of one is logged and does not reach the others."""
        for receiver in self._receivers:
            try:
                receiver(item)
            except Exception as err:
                _log.warning("a receiver of events failed: %s: %s", type(err).__name__, err)
