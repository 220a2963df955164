"""Event records (JSON Lines): responses, stream states, queries, statistics, each with a unique, stable id.

A live source's events carry the wall-clock time and latencies, and ids that grow with time (ULID layout).
A file's events carry neither: the same file, questions and model give the same bytes on every run, and the
ids are hashes of what the event is about, so a receiver that keeps ids sees a second run as duplicates.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Event = dict[str, Any]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EDGE_BYTES = 1 << 20
# Control characters that JSON leaves alone but terminals obey or line readers split on, and lone surrogates
# (undecodable bytes of a command line), which UTF-8 cannot hold.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class EventMaker:
    """Builds the events of one stream.

    ``identity`` is None for a live source; for a file it is a text that is the same whenever the same file is
    watched by the same model (see :func:`file_identity`).
    """

    def __init__(
        self,
        stream: str,
        identity: str | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.stream = stream
        self.live = identity is None
        self._identity = identity
        self._now = now
        self._ulid = UlidMaker(now)
        self._seen: dict[str, int] = {}

    def response(
        self,
        query: str,
        question: str,
        time_s: float,
        interval: tuple[float, float],
        text: str,
        score: float,
        latency_ms: Mapping[str, float],
    ) -> Event:
        """The model spoke about ``query`` after the frame interval that ends at ``time_s``.

        ``question`` is the query's text: receivers show it, and it tells apart the ids of runs over one file
        with other questions.
        """
        event = self._start("response", time_s, about=(query, question))
        event["query"] = query
        event["question"] = question
        event["time"] = _seconds(time_s)
        event["interval"] = [_seconds(interval[0]), _seconds(interval[1])]
        self._stamp(event)
        event["text"] = text
        event["score"] = round(score, 4)
        if self.live:
            event["latency_ms"] = {name: round(value, 1) for name, value in latency_ms.items()}
        return event

    def state(self, state: str, cause: str, time_s: float) -> Event:
        """The stream is now connecting, live, stalled, ended or failed; ``cause`` says why in words."""
        event = self._start("stream", time_s, about=(state,))
        event["time"] = _seconds(time_s)
        self._stamp(event)
        event["state"] = state
        event["cause"] = cause
        return event

    def query(self, action: str, query: str, text: str, time_s: float) -> Event:
        """A query was ``asked``, ``changed`` or ``removed`` at ``time_s`` of the stream; or ``never_asked``,
        because the stream ended before.
        """
        event = self._start("query", time_s, about=(action, query, text))
        event["query"] = query
        event["time"] = _seconds(time_s)
        self._stamp(event)
        event["action"] = action
        event["text"] = text
        return event

    def stats(self, time_s: float, counts: Mapping[str, Any], timing: Mapping[str, Any]) -> Event:
        """Counts so far, and for a live source ``timing`` (latencies, drops), which never repeats exactly."""
        event = self._start("stats", time_s, about=())
        event["time"] = _seconds(time_s)
        self._stamp(event)
        event.update(counts)
        if self.live:
            event.update(timing)
        return event

    def _start(self, kind: str, time_s: float, about: tuple[str, ...]) -> Event:
        return {"type": kind, "id": self._new_id(kind, time_s, about), "stream": self.stream}

    def _stamp(self, event: Event) -> None:
        if self.live:
            moment = datetime.fromtimestamp(self._now(), timezone.utc)
            event["wall_time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _new_id(self, kind: str, time_s: float, about: tuple[str, ...]) -> str:
        if self._identity is None:
            return self._ulid.next()
        what = json.dumps([self._identity, self.stream, kind, _seconds(time_s), *about])
        count = self._seen[what] = self._seen.get(what, 0) + 1
        return _base32(int.from_bytes(hashlib.sha256(f"{what}#{count}".encode()).digest()[:16], "big"))


class UlidMaker:
    """26-character ids that sort by time: 48 bits of milliseconds, then 80 random bits, always increasing."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        with self._lock:
            value = (int(self._now() * 1000) << 80) | secrets.randbits(80)
            # Within one millisecond, or after the clock was set back, count on from the last id.
            self._last = max(value, self._last + 1)
            return _base32(self._last)


def encode(event: Event) -> str:
    """One line of UTF-8 JSON without its newline; safe to show on a terminal."""
    line = json.dumps(event, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line)


def file_identity(path: str | os.PathLike[str], *more: str) -> str:
    """A text that tells this file's content (and ``more``, such as the model's hash) from any other.

    Size, first and last MiB are hashed, so that a film of many gigabytes costs no more than a short clip.
    Raises OSError when the file cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest.update(file.read(_EDGE_BYTES))
        if size > _EDGE_BYTES:
            file.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
            digest.update(file.read(_EDGE_BYTES))
    digest.update(json.dumps([size, *more]).encode())
    return digest.hexdigest()


def _base32(value: int) -> str:
    """26 digits of Crockford's base 32, most significant first; ``value`` has at most 128 bits."""
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))


def _seconds(value: float) -> float:
    """Stream time to the millisecond: beyond that it is noise of floating-point division."""
    return round(float(value), 3)
