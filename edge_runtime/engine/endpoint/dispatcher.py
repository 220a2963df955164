"""Sends the windows of all sessions to one server: few at a time, the newest of each session, never a queue.

A session that offers a window while an older one of its own waits replaces that one (``dropped``). Threads
take sessions in turn, so one camera cannot starve another. While the server fails or a limit is reached
nothing is sent, and windows go on replacing each other. A window whose request failed is sent again unless a
newer one waits.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_runtime.engine.endpoint.client import ChatReply, NoAnswer, RefusedError
from edge_runtime.engine.endpoint.hourly import HourlyLimits
from edge_runtime.engine.endpoint.protocol import Message
from edge_runtime.errors import BackendError, EdgeError

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
MOST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Window:
    """What one request shows. ``index``: the newest timestep in it."""

    index: int
    messages: Callable[[], Sequence[Message]]
    """Makes the request, when it is sent."""
    generation: int
    """Of the session: a reply to a question that was withdrawn counts no more."""
    pushed_at: float
    """On ``time.perf_counter``."""


class Receiver(Protocol):
    """A session, as its dispatcher sees it."""

    def receive(self, window: Window, reply: str, request_s: float) -> None:
        """Any thread."""
        ...


@dataclass
class Counts:
    """What was asked of the server so far."""

    requests: int = 0
    failed: int = 0
    dropped: int = 0
    """Windows that a newer one replaced before they were sent."""
    limited: int = 0
    """Of those, the ones that a limit held back."""
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True)
class DispatchSettings:
    """How windows are sent; ``pause_s``: the first pause after a failure, which doubles."""

    concurrency: int
    requests_per_hour: int | None
    tokens_per_hour: int | None
    give_up_s: float | None
    pause_s: float = FIRST_PAUSE_S


@dataclass
class _Outage:
    """Since when nothing came, how often in a row, and why."""

    since: float
    cause: str
    failures: int = 1
    until: float = field(default=0.0)
    """Nothing is sent before."""


class Dispatcher:
    """``send(messages)`` asks the server, from several threads. ``wake`` is called, from any thread, when a
    decision or a change of ``outage`` has come. :meth:`close` it.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Message]], ChatReply],
        settings: DispatchSettings,
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._name, self._send, self._settings = name, send, settings
        self._wake, self._clock = wake, clock
        self._limits = HourlyLimits(settings.requests_per_hour, settings.tokens_per_hour)
        self._limited = ""
        self._changed = threading.Condition()
        self._waiting: dict[Receiver, Window] = {}  # the oldest offer of a session first
        self._sending: set[Receiver] = set()  # so that the replies of one session come in order
        self._outage: _Outage | None = None
        self._answered = False
        self._error: BackendError | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"endpoint-{number}", daemon=True)
            for number in range(settings.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def outage(self) -> str:
        """Why nothing comes at present, in words; empty otherwise."""
        outage = self._outage
        return "" if outage is None else outage.cause

    def offer(self, session: Receiver, window: Window) -> Window | None:
        """Send this window as soon as may be; never blocks. Returns the one of the session it replaced."""
        with self._changed:
            replaced = self._waiting.get(session)
            if replaced is not None:
                self.counts.dropped += 1
                self.counts.limited += bool(self._limited)
            self._waiting[session] = window  # keeps its place in the order
            self._changed.notify()
        return replaced

    def withdraw(self, session: Receiver) -> None:
        """Send nothing of the session any more, until it offers again."""
        with self._changed:
            self._waiting.pop(session, None)

    def check(self) -> None:
        """Raise BackendError when no reply will come any more."""
        if self._error is not None:
            raise BackendError(str(self._error))

    def close(self) -> None:
        """Send nothing any more; a request that is on its way is not waited for."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            session, window = job
            began = self._clock()
            try:
                reply = self._send(window.messages())
            except NoAnswer as error:
                self._failed(session, window, str(error), error.after_s, error.tokens)
            except RefusedError as error:
                self._refused(session, window, error)
            except Exception as error:  # a bug, or a setting that the client cannot send: say it, never hang
                self._fail(BackendError(f"{self._name}: {type(error).__name__}: {error}"))
            else:
                self._succeeded(reply)
                session.receive(window, reply.text, self._clock() - began)
            with self._changed:
                self._sending.discard(session)
                self._changed.notify()
            self._wake()

    def _next(self) -> tuple[Receiver, Window] | None:
        """The next window that may be sent, once it may; None at the end."""
        with self._changed:
            while not self._closed and self._error is None:
                session = next((one for one in self._waiting if one not in self._sending), None)
                if session is None:
                    self._changed.wait()
                    continue
                pause = self._pause()
                if pause > 0:
                    self._changed.wait(min(pause, 60.0))
                    continue
                self._sending.add(session)
                self._limits.sent(self._clock())
                self.counts.requests += 1
                return session, self._waiting.pop(session)
            return None

    def _pause(self) -> float:
        """Seconds until something may be sent. Logs once that a limit is reached, once that it is over."""
        now = self._clock()
        limited, limit = self._limits.wait_s(now)
        if bool(limit) != bool(self._limited):
            if limit:
                minutes = max(1, round(limited / 60))
                line = "%s: %s is reached; nothing is sent for %d min, frames are dropped"
                _log.warning(line, self._name, limit, minutes)
            else:
                _log.warning("%s: sends again, the limit of the last hour is no longer reached", self._name)
        self._limited = limit
        outage = self._outage.until - now if self._outage is not None else 0.0
        return max(limited, outage)

    def _succeeded(self, reply: ChatReply) -> None:
        with self._changed:
            self._answered = True
            self._count(reply.tokens)
            outage, self._outage = self._outage, None
            self._changed.notify_all()
        if outage is not None:
            away = self._clock() - outage.since
            _log.warning("%s: answers again, after %.0f s and %d failures", self._name, away, outage.failures)

    def _failed(
        self,
        session: Receiver,
        window: Window,
        cause: str,
        after_s: float = 0.0,
        tokens: tuple[int | None, int | None] | None = None,
    ) -> None:
        with self._changed:
            now = self._clock()
            self.counts.failed += 1
            if tokens is not None:
                self._count(tokens)
            if session in self._waiting:
                self.counts.dropped += 1
            elif not self._closed:
                self._waiting[session] = window
            outage = self._outage
            first = outage is None
            if outage is None:
                outage = self._outage = _Outage(now, cause)
            else:
                outage.failures, outage.cause = outage.failures + 1, cause
            doubled = self._settings.pause_s * 2 ** min(outage.failures - 1, 16)
            pause = min(MOST_PAUSE_S, doubled) * random.uniform(0.5, 1.0)
            outage.until = now + max(pause, min(after_s, 3600.0))
        if first:
            _log.warning("%s: %s; retrying, frames are dropped until it answers", self._name, cause)
        give_up = self._settings.give_up_s
        if give_up is not None and now - outage.since >= give_up:
            self._fail(BackendError(f"{self._name}: no reply for {now - outage.since:.0f} s: {cause}"))

    def _refused(self, session: Receiver, window: Window, error: RefusedError) -> None:
        """The end while the server has never answered: key, name or address are wrong. Later an outage."""
        if self._answered:
            self._failed(session, window, str(error).removeprefix(f"{self._name}: "))
        else:
            with self._changed:
                self.counts.failed += 1
            self._fail(error)

    def _count(self, tokens: tuple[int | None, int | None]) -> None:
        tokens_in, tokens_out = tokens
        if tokens_in is None or tokens_out is None:
            if self._settings.tokens_per_hour is not None and self._error is None:
                text = "the server does not count tokens, so tokens_per_hour cannot be kept"
                self._error = BackendError(f"{self._name}: {text}; use requests_per_hour")
            return
        self.counts.tokens_in += tokens_in
        self.counts.tokens_out += tokens_out
        self._limits.spent(self._clock(), tokens_in + tokens_out)

    def _fail(self, error: EdgeError) -> None:
        with self._changed:
            self._error = self._error or BackendError(str(error))
            self._changed.notify_all()
