"""Events as lines of JSON to a file descriptor, written whole or not at all; stdout is one.

A sink that cannot write (disk full, most often) never stops the run. It logs that once, keeps the newest
lines in memory, writes them when there is room again, and counts lost events.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import sys
from collections import deque
from contextlib import suppress

from edge_runtime.errors import SinkError
from edge_runtime.events.records import Event, encode
from edge_runtime.sinks.base import Sink

BACKLOG_LINES = 1000
"""Lines kept while a sink cannot write; about an hour of a talkative stream, and well under a megabyte."""


class ReaderGoneError(Exception):
    """The reader of stdout has closed it (``edge-run ... | head -1``): the run ends without an error."""


_log = logging.getLogger(__name__)


class LineSink(Sink):
    """Lines to a file descriptor. A failure is logged once, and once when it is over."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self.delivered = 0
        """Events written in this run."""
        self._fd = descriptor
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._failing = False
        self._at_line_start = True

    @property
    def depth(self) -> int:
        """Events kept in memory until they can be written."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """Events given up because too many waited."""
        return self._dropped

    def counts(self) -> dict[str, int]:
        return {"delivered": self.delivered, "waiting": self.depth, "lost": self.lost}

    def write(self, event: Event) -> bool:
        self._waiting.append(encode(event).encode() + b"\n")
        if len(self._waiting) > BACKLOG_LINES:
            self._waiting.popleft()
            self._dropped += 1
        return self._drain()

    def close(self) -> int:
        self._drain()
        lost = self._dropped + len(self._waiting)
        return lost if self._sync() else max(lost, 1)

    def _drain(self) -> bool:
        """Write what waits, oldest first; False when something still waits."""
        written = 0
        try:
            while self._waiting:
                self._write_line(self._waiting[0])
                self._waiting.popleft()
                written += 1
                self.delivered += 1
        except BrokenPipeError as err:
            self._reader_gone(err)
            return False
        except OSError as err:
            self._note_failure(err)
            return False
        if self._failing:
            self._failing = False
            lost = f"; {self._dropped} events were lost" if self._dropped else ""
            _log.warning("%s can be written again, %d events written late%s", self.name, written, lost)
        return True

    def _note_failure(self, err: OSError) -> None:
        if not self._failing:
            self._failing = True
            reason = err.strerror or str(err)
            _log.warning(
                "cannot write events to %s: %s. The run goes on; "
                "the newest %d events are kept and written as soon as it works again",
                self.name,
                reason,
                BACKLOG_LINES,
            )

    def _reader_gone(self, err: OSError) -> None:
        self._note_failure(err)

    def _write_line(self, line: bytes) -> None:
        """Write all of ``line`` or raise OSError with nothing of it left behind, where the output allows."""
        if not self._at_line_start:
            line = b"\n" + line
        before = self._regular_size()
        done = 0
        try:
            while done < len(line):
                done += self._write_some(line[done:])
        except OSError:
            if done:
                self._at_line_start = self._take_back(before, done) and self._at_line_start
            raise
        self._at_line_start = True

    def _write_some(self, data: bytes) -> int:
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # a pipe that its other end made non-blocking
                select.select([], [self._fd], [])

    def _take_back(self, before: int | None, done: int) -> bool:
        """Cut a line written in part off the file again; False when it cannot be (a pipe, a shared file)."""
        if before is None or self._regular_size() != before + done:
            return False
        try:
            os.ftruncate(self._fd, before)
        except OSError:
            return False
        return True

    def _regular_size(self) -> int | None:
        status = os.fstat(self._fd)
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _sync(self) -> bool:
        """False when the system reports that lines it had accepted did not reach the disk."""
        try:
            os.fsync(self._fd)
        except OSError as err:
            if err.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # pipes and devices need no sync
                self._note_failure(err)
                return False
        return True


class StdoutSink(LineSink):
    """Events to stdout, each line at once. Raises ReaderGoneError when its reader has gone."""

    def __init__(self) -> None:
        # With stdout closed at the start, descriptor 1 may by now be some other file: never write there.
        if sys.__stdout__ is None:
            raise SinkError(
                "stdout is closed, so events have nowhere to go; use >/dev/null if you do not want them"
            )
        super().__init__(1, "stdout")
        self._gone = False

    def write(self, event: Event) -> bool:
        if self._gone:  # with several cameras the first that found out may have been at its end
            raise ReaderGoneError
        return super().write(event)

    def close(self) -> int:
        with suppress(ReaderGoneError):
            return super().close()
        return 0  # the reader did not want them

    def _reader_gone(self, err: OSError) -> None:
        # What is left cannot be delivered, and the interpreter must not fail at exit when it flushes stdout.
        self._gone = True
        self._waiting.clear()
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ReaderGoneError from err
