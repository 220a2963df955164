"""Items of another thread, waited for by a coroutine: ``async for``."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Waiting(AsyncIterator[_T], Generic[_T]):
    """Made in the event loop that waits; ``put`` and ``end`` are for any thread and never block.

    At most ``most`` items wait: then the oldest gives way and is counted in ``dropped``.
    """

    def __init__(self, most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._items: deque[_T] = deque()
        self._most = most
        self._over = False
        self._woken = False
        self.dropped = 0
        self.on_close: Callable[[], None] = lambda: None
        """Called once when no consumer waits any more."""

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def put(self, item: _T) -> None:
        with self._lock:
            if self._over:
                return
            if len(self._items) >= self._most:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
        self._wake()

    def end(self) -> None:
        """No more will come: what waits is still given out."""
        self._over = True
        self._wake()

    async def __anext__(self) -> _T:
        while (item := await self.get(3600.0)) is None:
            pass
        return item

    async def get(self, timeout_s: float) -> _T | None:
        """The next item, or None after ``timeout_s``. At the end StopAsyncIteration."""
        while True:
            self._ready.clear()
            with self._lock:
                self._woken = False
                if self._items:
                    return self._items.popleft()
                over = self._over
            if over:
                self.close()
                raise StopAsyncIteration
            try:
                await asyncio.wait_for(self._ready.wait(), timeout_s)
            except asyncio.TimeoutError:
                return None

    def close(self) -> None:
        """Stop listening."""
        self._over = True
        self.on_close()
        self.on_close = lambda: None

    def __enter__(self) -> Waiting[_T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        """One call at a time waits in the event loop, however much is put."""
        with self._lock:
            if self._woken:
                return
            self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the event loop is closed: no consumer waits
            self.close()
