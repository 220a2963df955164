"""What happens in the run, handed to clients as it happens: events, and scores for those who want them.

Every client has a queue of its own that is bounded. A client that reads too slowly loses scores first; when
events would be lost its connection ends. It connects again with the last id that it has and misses nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge_runtime.app.run.control import Control, Scores
from edge_runtime.app.web.event_log import EventLog
from edge_runtime.events.records import Event
from edge_runtime.events.waiting import Waiting

MOST_WAITING = 512
_MOST_BEFORE_SCORES = 64
_SCORES_KEPT = 600
MOST_CLIENTS = 100

Wanted = Callable[[Event], bool]


@dataclass(frozen=True)
class Item:
    """An event, or the scores of one timestep, which have no id."""

    kind: str
    data: dict[str, Any]
    id: str | None = None


class TooManyClientsError(Exception):
    """No room for another client."""


class Client:
    """One that follows. Close it, whatever happens."""

    def __init__(self, live: Live, control: Control, wanted: Wanted, scores: bool) -> None:
        self._live = live
        self._wanted = wanted
        self._waiting: Waiting[Item] = Waiting(MOST_WAITING)
        self._before: deque[Item] = deque()
        self._sent: set[str | None] = set()
        self._ends = [control.subscribe(self._receive)]
        if scores:
            self._ends.append(control.subscribe_scores(self._receive_scores))

    async def begin_after(self, id: str) -> None:
        """Start with what has happened after the event with that id."""
        page = await asyncio.to_thread(self._live.log.since, id)
        if not page.complete:
            self._before.append(Item("gap", {"type": "gap", "since": id}))
        self._before += [_item(event) for event in page.events if self._wanted(event)]
        self._sent = {item.id for item in self._before}

    async def get(self, timeout_s: float) -> Item | None:
        """The next item, None after ``timeout_s``. StopAsyncIteration when the server ends, and when events
        were lost because they were not taken in time.
        """
        if self._before:
            return self._before.popleft()
        while True:
            item = await self._waiting.get(timeout_s)
            if self._waiting.dropped:
                self._live.dropped += self._waiting.dropped
                raise StopAsyncIteration
            if item is None or item.id is None or item.id not in self._sent:
                return item

    def end(self) -> None:
        self._waiting.end()

    def close(self) -> None:
        for end in self._ends:
            end()
        self._live.forget(self)

    def _receive(self, event: Event) -> None:
        if self._wanted(event):
            self._waiting.put(_item(event))

    def _receive_scores(self, one: Scores) -> None:
        if len(self._waiting) < _MOST_BEFORE_SCORES:
            self._waiting.put(Item("score", _scores(one)))
        else:
            self._live.dropped += 1


class Live:
    """Events and scores of a run for any number of clients. Make it before the run begins."""

    def __init__(self, control: Control, log: EventLog) -> None:
        self.log = log
        self.dropped = 0
        """Scores and events that clients were too slow for."""
        self._control = control
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._scores: dict[str, deque[dict[str, Any]]] = {}
        self._ends = [
            control.subscribe(log.add),
            control.subscribe_scores(self._keep_scores),
            control.subscribe_left(self._forget_scores),
        ]

    @property
    def clients(self) -> int:
        return len(self._clients)

    def scores(self, camera: str) -> list[dict[str, Any]]:
        """Of the last timesteps, the oldest first."""
        with self._lock:
            return list(self._scores.get(camera, ()))

    def follow(self, wanted: Wanted, *, scores: bool) -> Client:
        """What happens from now on. In the event loop of the server. Raises TooManyClientsError."""
        if len(self._clients) >= MOST_CLIENTS:
            raise TooManyClientsError
        client = Client(self, self._control, wanted, scores)
        self._clients.add(client)
        return client

    def forget(self, client: Client) -> None:
        self._clients.discard(client)

    def close(self) -> None:
        """End what is being followed. In the event loop of the server."""
        for end in self._ends:
            end()
        for client in list(self._clients):
            client.end()

    def _keep_scores(self, one: Scores) -> None:
        with self._lock:
            kept = self._scores.setdefault(one.camera, deque(maxlen=_SCORES_KEPT))
            kept.append(_scores(one))

    def _forget_scores(self, camera: str) -> None:
        with self._lock:
            self._scores.pop(camera, None)


def _item(event: Event) -> Item:
    return Item(event["type"], event, event["id"])


def _scores(one: Scores) -> dict[str, Any]:
    moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "type": "score",
        "stream": one.camera,
        "time": round(one.time, 3),
        "wall_time": moment,
        "scores": {step.query: round(step.decision.score, 4) for step in one.steps},
        "latency_ms": round(max((step.latency_ms["decision"] for step in one.steps), default=0.0), 1),
    }
