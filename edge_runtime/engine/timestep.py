"""A timestep of one stream, while its sessions decide: one by one, or several in shared calls of the engine.

Sessions of one stream and of several streams share calls alike, as far as their model's
:class:`~edge_runtime.backends.batcher.StepBatcher` can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from edge_runtime.backends.batcher import StepBatcher, run_some
from edge_runtime.engine.decision import Decision
from edge_runtime.engine.query import Query
from edge_runtime.engine.shared_session import SharedSession


@dataclass(frozen=True)
class Decided:
    """A session's decision, and the milliseconds from the frame to the start of its push."""

    before_ms: float
    decision: Decision


class Timestep:
    """``queries`` are to be decided on. ``push`` shows the frame to a session: its decision, None when that
    comes later.
    """

    def __init__(
        self,
        queries: Sequence[Query],
        push: Callable[[SharedSession], Decided | None],
        batcher: StepBatcher | None,
    ) -> None:
        self.queries = queries
        self.batcher = batcher
        self.waiting = list(dict.fromkeys(query.shared for query in queries))
        """Sessions that have not been pushed."""
        self._push = push
        self._pushed: dict[SharedSession, Future[Decided | None]] = {}

    def decided(self, shared: SharedSession) -> Decided | None:
        """What a session came to. Sessions are pushed in order, when they are asked about, and take others
        along that can share their calls. Raises what the push raised.
        """
        while shared not in self._pushed:
            push_some([(self, one) for one in self.waiting], self.batcher)
        return self._pushed[shared].result()

    def call(self, shared: SharedSession) -> Callable[[], Decided | None]:
        return partial(self._push, shared)

    def take(self, shared: SharedSession, pushed: Future[Decided | None]) -> None:
        """A waiting session has been pushed."""
        self.waiting.remove(shared)
        self._pushed[shared] = pushed


def push_some(waiting: Sequence[tuple[Timestep, SharedSession]], batcher: StepBatcher | None) -> None:
    """Push the first of ``waiting``, and with it those that can share its calls."""
    calls = [timestep.call(shared) for timestep, shared in waiting]
    for (timestep, shared), pushed in zip(waiting, run_some(calls, batcher), strict=False):
        timestep.take(shared, pushed)


def push_together(timesteps: Sequence[Timestep]) -> None:
    """Push sessions of several streams that can share calls; the others are left waiting."""
    for batcher in {timestep.batcher for timestep in timesteps}:
        if batcher is None:
            continue
        while True:
            waiting = [
                (timestep, shared)
                for timestep in timesteps
                if timestep.batcher is batcher
                for shared in timestep.waiting
            ]
            if batcher.group_size(len(waiting)) == 1:
                break
            push_some(waiting, batcher)
