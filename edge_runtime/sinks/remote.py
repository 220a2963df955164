"""A sink on another machine: events go into the outbox, and a thread sends them from there.

The run never waits for the network. An event that cannot be sent is retried with growing pauses, in order; an
event that the receiver rejects for good is dropped and counted. A failure is logged once, and once when it is
over.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from edge_runtime.events.records import Event, encode
from edge_runtime.sinks.base import Sink
from edge_runtime.sinks.outbox import Outbox, OutboxError, OutboxRecord

BACKLOG_EVENTS = 1000
"""Events kept in memory while the outbox cannot be written."""
FLUSH_S = 5.0
"""How long the end of a run waits for what is still to be sent; the rest stays in the outbox."""

_IDLE_S = 1.0
"""Pause between looks at the outbox for what another process has put there."""


_log = logging.getLogger(__name__)


class RetryableError(Exception):
    """The receiver did not take the event now; ``retry_after_s`` is the least pause that it asked for."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class PermanentError(Exception):
    """The receiver will never take this event."""


class Transport(Protocol):
    """Brings events to a receiver. No ``name``, no message may hold a password, token or address path."""

    name: str

    def send(self, record: OutboxRecord) -> None:
        """Return when the receiver has acknowledged. Raises RetryableError or PermanentError."""
        ...

    def connect(self) -> None:
        """Connect, as for an event, and send none. Raises RetryableError."""
        ...

    def close(self) -> None: ...


class Backoff:
    """Pauses that double from ``first_s`` to ``longest_s``, each shortened by chance to between half and all.

    The chance keeps a hundred cameras from knocking at the same moment when their receiver comes back.
    """

    def __init__(
        self,
        first_s: float = 1.0,
        longest_s: float = 60.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self._failures = 0

    def next_s(self) -> float:
        """The pause after one more failure."""
        whole = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return whole * (0.5 + self._chance() / 2)

    def reset(self) -> None:
        self._failures = 0


class Sender:
    """Empties an outbox, one :meth:`step` after the other; the thread around it is :class:`RemoteSink`'s."""

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.delivered = 0
        self.refused = 0
        self.failing = False
        """The last attempt did not reach the receiver."""
        self._outbox = outbox
        self._transport = transport
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._not_before = 0.0
        self._acknowledged = 0  # kept here too: a full disk may keep the outbox from deleting
        self._refusing = False

    def step(self) -> float:
        """Send the oldest event if its time has come; seconds to wait until the next step."""
        pause = self._not_before - self._clock()
        if pause > 0:
            return pause
        try:
            if not self._outbox.may_send():
                return _IDLE_S
            self._outbox.trim()
            record = self._outbox.first(after=self._acknowledged)
        except (OSError, OutboxError):
            with suppress(OutboxError):
                record = self._outbox.first(after=self._acknowledged)  # a full disk can still be read
                return self._send(record) if record else _IDLE_S
            return _IDLE_S
        return self._send(record) if record else _IDLE_S

    def _send(self, record: OutboxRecord) -> float:
        try:
            self._transport.send(record)
        except RetryableError as err:
            return self._failed(str(err), err.retry_after_s)
        except PermanentError as err:
            self.refused += 1
            if not self._refusing:
                _log.warning(
                    "%s refused an event: %s; it and others like it are dropped", self._transport.name, err
                )
            self._refusing = True
        except Exception as err:  # a fault in a transport must not end the thread: the event waits
            return self._failed(f"unexpected {type(err).__name__}", 0.0)
        else:
            self.delivered += 1
            _log.debug("%s took event %s", self._transport.name, record.id)
            self._refusing = False
        if self.failing:
            self.failing = False
            _log.warning("%s takes events again; %d were waiting", self._transport.name, self._outbox.depth())
        self._backoff.reset()
        self._acknowledged = record.number
        with suppress(OutboxError):  # with the next one; until then it is known here to be done
            self._outbox.done(record.number)
        return 0.0

    def _failed(self, reason: str, retry_after_s: float) -> float:
        if not self.failing:
            self.failing = True
            _log.warning(
                "cannot send events to %s: %s. The run goes on; "
                "they wait in %s and are sent as soon as it works again",
                self._transport.name,
                reason,
                self._outbox.path,
            )
        pause = max(self._backoff.next_s(), retry_after_s)
        _log.debug("%s: %s; retry in %.1f s", self._transport.name, reason, pause)
        self._not_before = self._clock() + pause
        return pause


class RemoteSink(Sink):
    """Events of the given ``types`` to one receiver, by way of an outbox.

    ``write`` returns True once the event is safe on disk: from there it will arrive, so it counts as sent.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        types: Collection[str],
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = transport.name
        self.sender = Sender(outbox, transport, backoff=backoff)
        self._outbox = outbox
        self._transport = transport
        self._types = frozenset(types)
        self._unsaved: deque[tuple[str, str, str, bytes]] = deque()
        self._overflowed = 0
        self._full = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"send to {self.name}", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Events that wait to be sent."""
        return self._outbox.depth() + len(self._unsaved)

    @property
    def delivered(self) -> int:
        """Events that the receiver has acknowledged in this run."""
        return self.sender.delivered

    @property
    def lost(self) -> int:
        """Events dropped for size or age, refused, or too many for memory while the disk was full."""
        return self._outbox.dropped + self.sender.refused + self._overflowed

    def counts(self) -> dict[str, int]:
        return {"delivered": self.delivered, "waiting": self.depth, "lost": self.lost}

    def write(self, event: Event) -> bool:
        if event["type"] not in self._types:
            return False
        with self._lock:
            self._unsaved.append((event["id"], event["stream"], event["type"], encode(event).encode()))
            if len(self._unsaved) > BACKLOG_EVENTS:
                self._unsaved.popleft()
                self._overflowed += 1
            saved = self._save()
        self._wake.set()
        return saved

    def close(self) -> int:
        """Send what can be sent within five seconds; the rest is sent by the next run."""
        self._ending.set()
        self._wake.set()
        self._thread.join(FLUSH_S + 1.0)
        with self._lock:
            self._save()
            lost = self.lost + len(self._unsaved)
            self._unsaved.clear()
        waiting = self._outbox.depth()
        if waiting:
            _log.warning(
                "%d events for %s wait in %s; the next run sends them", waiting, self.name, self._outbox.path
            )
        if not self._thread.is_alive():
            self._transport.close()
        self._outbox.close()
        return lost

    def _save(self) -> bool:
        """Bring what is in memory to disk, oldest first; False when something stays."""
        try:
            while self._unsaved:
                self._outbox.put(*self._unsaved[0])
                self._unsaved.popleft()
        except OutboxError as err:
            if not self._full:
                self._full = True
                _log.warning(
                    "cannot write the outbox %s: %s. The run goes on; the newest %d events are kept in "
                    "memory until it works again",
                    self._outbox.path,
                    err,
                    BACKLOG_EVENTS,
                )
            return False
        if self._full:
            self._full = False
            lost = f"; {self._overflowed} events were lost" if self._overflowed else ""
            _log.warning("the outbox %s can be written again%s", self._outbox.path, lost)
        return True

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.clear()
            with self._lock:
                self._save()
            pause = self.sender.step()
            if pause:
                self._wait(pause)
        deadline = time.monotonic() + FLUSH_S
        # At the end one failure is enough: whoever waits for the command shall not wait for the network.
        while time.monotonic() < deadline and self._outbox.depth() and self.sender.step() == 0.0:
            pass

    def _wait(self, pause_s: float) -> None:
        """A new event ends the pause of an idle thread, not that between two attempts."""
        if self.sender.failing:
            self._ending.wait(pause_s)
        else:
            self._wake.wait(pause_s)
