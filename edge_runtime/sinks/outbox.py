"""Events on their way to another machine, kept on disk until it has acknowledged them (at least once).

One SQLite file per receiver, in the order the events were written; an event is deleted only when it has
been acknowledged. The write-ahead log is synced with every event, so that neither SIGKILL nor a power cut
loses one that :meth:`Outbox.put` returned for. Size and age are bounded: the oldest go first,
and are counted.

Any number of processes may put events into the same file; the one that holds the lock sends them all.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import SinkError

DEFAULT_MAX_BYTES = 64 << 20
DEFAULT_MAX_AGE_S = 7 * 86400.0

_DROP_AT_ONCE = 64
"""Events dropped together when there are too many: one by one would sync the disk all the time."""
_BUSY_S = 5.0

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    stream TEXT NOT NULL,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    written REAL NOT NULL
)
"""


@dataclass(frozen=True)
class OutboxRecord:
    """One event in the outbox."""

    number: int
    """Grows with every event; the order of sending."""
    id: str
    """The event's own, stable one: a receiver that keeps ids knows what it has already."""
    stream: str
    type: str
    body: bytes
    """The event as JSON."""
    written: float = 0.0
    """When it came into the outbox, by the wall clock."""


class OutboxError(Exception):
    """The outbox cannot be written or read just now (the disk is full, most often); the reason in words."""


class Outbox:
    """A queue on disk. For any number of threads and processes.

    ``max_bytes`` bounds what the events take in the file, ``max_age_s`` how long they wait (by the wall clock
    ``now``). Raises SinkError when the file cannot be made. A damaged file is renamed to ``*.damaged``, with
    a warning: old events must not keep new ones from being sent.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age_s: float = DEFAULT_MAX_AGE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self.dropped = 0
        """Events this process dropped because of size or age."""
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._now = now
        self._lock = threading.RLock()
        self._sender: int | None = None
        try:
            # Events tell what a camera saw: nobody else's business.
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = self._open()
        except (OSError, sqlite3.Error) as err:
            reason = err.strerror if isinstance(err, OSError) else str(err)
            raise SinkError(
                f"cannot keep an outbox in {self.path}: {reason}; "
                "give runtime.outbox a folder that can be written"
            ) from err

    def put(self, id: str, stream: str, type: str, body: bytes) -> None:
        """Write an event; on return it survives the process. Raises OutboxError when it could not be written.

        An id that still waits is not written twice.
        """
        with self._lock:
            try:
                self._db.execute(
                    "INSERT OR IGNORE INTO event (id, stream, type, body, written) VALUES (?, ?, ?, ?, ?)",
                    (id, stream, type, body, self._now()),
                )
            except sqlite3.Error as err:
                raise OutboxError(str(err)) from err
            with suppress(OutboxError):  # the event is safe; what is too much goes with the next one
                self.trim()

    def first(self, after: int = 0) -> OutboxRecord | None:
        """The oldest event whose number is above ``after``; None when there is none. Raises OutboxError."""
        with self._lock:
            row = self._query(
                "SELECT number, id, stream, type, body, written FROM event "
                "WHERE number > ? ORDER BY number LIMIT 1",
                after,
            )
        return OutboxRecord(*row) if row else None

    def done(self, number: int) -> None:
        """Delete all events up to ``number``: they are acknowledged. Raises OutboxError."""
        with self._lock:
            self._delete("DELETE FROM event WHERE number <= ?", number)

    def depth(self) -> int:
        """How many events wait; 0 when that cannot be read."""
        with self._lock, suppress(OutboxError):
            return int(self._query("SELECT count(*) FROM event")[0])
        return 0

    def trim(self) -> None:
        """Drop what is too old or too much, oldest first. Raises OutboxError."""
        with self._lock:
            self.dropped += self._delete("DELETE FROM event WHERE written < ?", self._now() - self._max_age_s)
            while self._used_bytes() > self._max_bytes:
                dropped = self._delete(
                    "DELETE FROM event WHERE number IN (SELECT number FROM event ORDER BY number LIMIT ?)",
                    _DROP_AT_ONCE,
                )
                self.dropped += dropped
                if not dropped:
                    return

    def may_send(self) -> bool:
        """Whether this process is the one that sends: the first to ask, until it closes or ends."""
        with self._lock:
            if self._sender is None:
                descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(descriptor)
                    return False
                self._sender = descriptor
            return True

    def close(self) -> None:
        """Let go of the file. What waits in it is sent by the next process that opens it."""
        with self._lock:
            with suppress(sqlite3.Error):
                self._db.close()
            if self._sender is not None:
                os.close(self._sender)
                self._sender = None

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as err:
            aside = self.path.with_name(self.path.name + ".damaged")
            self.path.replace(aside)
            for extra in ("-wal", "-shm"):
                Path(f"{self.path}{extra}").unlink(missing_ok=True)
            _log.warning(
                "the outbox %s was damaged (%s) and is now %s; a new one is begun", self.path, err, aside
            )
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        self.path.touch(mode=0o600)
        # isolation_level None: every statement is its own transaction, synced when it returns.
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA journal_size_limit=1048576")
            db.execute(_SCHEMA)
            db.execute("SELECT count(*) FROM event").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _used_bytes(self) -> int:
        pages = int(self._query("PRAGMA page_count")[0]) - int(self._query("PRAGMA freelist_count")[0])
        return pages * int(self._query("PRAGMA page_size")[0])

    def _query(self, statement: str, *values: object) -> tuple:  # type: ignore[type-arg]
        try:
            row: tuple = self._db.execute(statement, values).fetchone()  # type: ignore[type-arg]
        except sqlite3.Error as err:
            raise OutboxError(str(err)) from err
        return row

    def _delete(self, statement: str, *values: object) -> int:
        try:
            return self._db.execute(statement, values).rowcount
        except sqlite3.Error as err:
            raise OutboxError(str(err)) from err
