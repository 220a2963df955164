"""Steps of several sessions in one call of the engine. Nothing here imports one.

Sessions that decide about the same frame run in a thread each, and every thread goes as far as its next step
of the cache. When all have come to one, or have ended, the steps are carried out in one call of the batch
graph, and the threads go on. So sessions that are silent share one call, and those that speak share one for
each token, however long their texts get; what a session does between its steps is written once, in
:mod:`edge_runtime.engine.session`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EdgeError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
FEWEST = 3
"""Fewer sessions have a call each. With three, SmolLM2-135M takes 0.84 times as long for a silent timestep
and 0.65 times for a token, nano 0.97 and 1.17 times (benchmarks/latency/questions.py)."""


@dataclass(frozen=True)
class Chunk:
    """Arguments of :meth:`DecoderCache.step <edge_runtime.backends.base.DecoderCache.step>`."""

    embeddings: NDArray[np.float32]
    start: int
    positions: NDArray[np.int64] | None = None
    deepstack: NDArray[np.float32] | None = None


class SteppedCache(Protocol):
    """A cache whose steps may be carried out with those of others."""

    def step_alone(self, chunk: Chunk) -> NDArray[np.float32]: ...


class BatchGraph(Protocol):
    """The decoder for several sessions. For one thread at a time."""

    def step(self, steps: Sequence[tuple[SteppedCache, Chunk]]) -> list[NDArray[np.float32]]:
        """As one :meth:`SteppedCache.step_alone` after the other, in one call; each cache at most once."""
        ...


class StepBatcher:
    """Of one decoder. ``places``: sessions that its batch graph takes; ``load`` gives that graph, once.

    When it cannot be loaded, sessions go on one by one, with one warning.
    """

    def __init__(self, places: int, load: Callable[[], BatchGraph]) -> None:
        self.places = places
        self._load = load
        self._graph: BatchGraph | None = None
        self._failed = False
        self._pool: ThreadPoolExecutor | None = None
        self._turn = threading.Lock()
        """Held while sessions run together: two groups at a time would only share the cores."""
        self._of_thread = threading.local()
        self._open: WeakSet[SteppedCache] = WeakSet()

    def opened(self, cache: SteppedCache) -> None:
        """One more cache may step with others. When there are enough, the graph is loaded: now, because later
        a frame would wait for it.
        """
        self._open.add(cache)
        if len(self._open) >= FEWEST:
            with self._turn:
                self._ready()

    def closed(self, cache: SteppedCache) -> None:
        """It steps no more."""
        self._open.discard(cache)

    def group_size(self, sessions: int) -> int:
        """How many of ``sessions`` to run together first; 1 where that gains nothing."""
        if self._failed or sessions < FEWEST:
            return 1
        groups = -(-sessions // self.places)
        return -(-sessions // groups)  # of equal size: a small rest would gain nothing

    def run(self, calls: Sequence[Callable[[], _T]]) -> list[Future[_T]]:
        """Run the first of ``calls`` together, as many as fit and pay: see :func:`run_some`."""
        with self._turn:
            graph = self._ready() if len(calls) >= FEWEST else None
            calls = calls[: self.group_size(len(calls))]
            if graph is None:
                return [_done(call) for call in calls]
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.places, thread_name_prefix="session")
            meeting = _Meeting(graph, len(calls))
            futures = [self._pool.submit(self._attend, meeting, call) for call in calls]
            try:
                wait(futures)
            finally:
                wait(futures)  # after Ctrl-C as well: until then they use the graph
            return futures

    def step(self, cache: SteppedCache, chunk: Chunk) -> NDArray[np.float32]:
        """A step of ``cache``: with those of others within :meth:`run`, else alone."""
        meeting: _Meeting | None = getattr(self._of_thread, "meeting", None)
        return cache.step_alone(chunk) if meeting is None else meeting.step(cache, chunk)

    def _attend(self, meeting: _Meeting, call: Callable[[], _T]) -> _T:
        self._of_thread.meeting = meeting
        try:
            return call()
        finally:
            self._of_thread.meeting = None
            meeting.leave()

    def _ready(self) -> BatchGraph | None:
        if self._graph is None and not self._failed:
            try:
                self._graph = self._load()
            except EdgeError as error:
                self._failed = True
                _log.warning("questions are decided on one by one: %s", error)
        return self._graph


def run_some(calls: Sequence[Callable[[], _T]], batcher: StepBatcher | None) -> list[Future[_T]]:
    """Run the first of ``calls``, each of which steps a cache of its own: several where ``batcher`` can run
    them together, else one.

    Each of the futures is done: with what the call returned or raised.
    """
    return [_done(calls[0])] if batcher is None else batcher.run(calls)


def _done(call: Callable[[], _T]) -> Future[_T]:
    future: Future[_T] = Future()
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    return future


class _Waiting:
    """A step that waits for the others'."""

    def __init__(self, cache: SteppedCache, chunk: Chunk) -> None:
        self.step = (cache, chunk)
        self.logits: NDArray[np.float32] | None = None
        self.error: BaseException | None = None


class _Meeting:
    """``threads`` that step caches until each has left."""

    def __init__(self, graph: BatchGraph, threads: int) -> None:
        self._graph = graph
        self._busy = threads  # neither waiting nor gone
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()

    def step(self, cache: SteppedCache, chunk: Chunk) -> NDArray[np.float32]:
        mine = _Waiting(cache, chunk)
        with self._changed:
            self._waiting.append(mine)
            self._pause()
            self._changed.wait_for(lambda: mine.logits is not None or mine.error is not None)
        if mine.error is not None:
            raise mine.error
        assert mine.logits is not None
        return mine.logits

    def leave(self) -> None:
        with self._changed:
            self._pause()

    def _pause(self) -> None:
        """One thread less is busy; the last one carries out what waits. The others wait for that."""
        self._busy -= 1
        if self._busy or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        if len(waiting) < FEWEST:
            for one in waiting:
                _carry_out(one)
        else:
            try:
                found = self._graph.step([one.step for one in waiting])
            except BaseException as error:
                for one in waiting:
                    one.error = error
            else:
                for one, logits in zip(waiting, found, strict=True):
                    one.logits = logits
        self._busy = len(waiting)
        self._changed.notify_all()


def _carry_out(waiting: _Waiting) -> None:
    cache, chunk = waiting.step
    try:
        waiting.logits = cache.step_alone(chunk)
    except BaseException as error:
        waiting.error = error
