"""Ids of events: unique, 26 characters, and for a recording the same on every run.

A live source's ids grow with time (ULID layout). A recording's ids are hashes of what the event is about, so
that a receiver which keeps ids sees a second run as duplicates.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EDGE_BYTES = 1 << 20


class EventIds:
    """Ids of one stream's events.

    ``identity``: None for a live source; for a recording a text that is the same whenever the same recording
    is watched by the same model (see :func:`file_identity`).
    """

    def __init__(
        self, stream: str, identity: str | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self.live = identity is None
        self._stream, self._identity = stream, identity
        self._ulid = UlidMaker(now)
        self._seen: dict[str, int] = {}

    def next(self, kind: str, time_s: float, about: tuple[str, ...] = ()) -> str:
        """Id of the next event of type ``kind`` at ``time_s``; ``about`` tells apart events of one moment."""
        if self._identity is None:
            return self._ulid.next()
        what = json.dumps([self._identity, self._stream, kind, round_seconds(time_s), *about])
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


def round_seconds(value: float) -> float:
    """Stream time to the millisecond: beyond that it is noise of floating-point division."""
    return round(float(value), 3)


def _base32(value: int) -> str:
    """26 digits of Crockford's base 32, most significant first; ``value`` has at most 128 bits."""
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))
