"""``[runtime] events``: events appended to a file, which is rotated by size and age if configured.

Rotation happens between two lines, by renaming: ``events.jsonl`` becomes ``.1``, ``.1`` becomes ``.2``, and
files beyond the count are deleted. Other programs that move the file away (logrotate with ``create``) need no
signal: before every line the sink checks whether the name still leads to the open file, and if not, reopens
it. Several processes may write to one file: one of them rotates, the others follow.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge_runtime.config.table import Table
from edge_runtime.errors import Finding, SinkError
from edge_runtime.sinks.base import SinkConfig, SinkContext
from edge_runtime.sinks.stdout import LineSink

_log = logging.getLogger(__name__)

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


@dataclass(frozen=True)
class Rotation:
    """When a file is renamed and a new one begun; None: never for that reason."""

    max_bytes: int | None = None
    max_age_s: float | None = None
    """Since the first event in the file, by the wall clock."""
    keep: int = 5
    """Renamed files that are kept."""


def read_rotation(table: Table) -> Rotation:
    """The keys ``events_megabytes``, ``events_days`` and ``events_keep`` of ``[runtime]``."""
    megabytes = table.positive("events_megabytes", None)
    days = table.positive("events_days", None, 1e6)
    keep = table.whole("events_keep", 5, lambda n: 1 <= n <= 1000, "a whole number of files from 1 to 1000")
    return Rotation(
        None if megabytes is None else max(1, int(megabytes * (1 << 20))),
        None if days is None else days * 86400.0,
        keep,
    )


@dataclass(frozen=True)
class FileConfig(SinkConfig):
    """The file of ``[runtime] events`` or ``--events``, which is its name."""

    kind = "file"

    rotation: Rotation = field(default_factory=Rotation)

    def open(self, context: SinkContext) -> FileSink:
        return FileSink(self.name, self.rotation)

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        if problem := _unwritable(Path(self.name)):
            yield Finding("", "fail", f"{self.name}: {problem}", exit_code=SinkError.exit_code)


class FileSink(LineSink):
    """A file, or a named pipe that has a reader. SinkError when it cannot be opened."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        rotation: Rotation | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self.rotations = 0
        self._rotation = rotation or Rotation()
        self._now = now
        self._cannot_rotate = False
        try:
            # Non-blocking, or a named pipe without a reader would hold the run here for ever.
            descriptor = os.open(self.path, _FLAGS | os.O_NONBLOCK, 0o644)
        except OSError as err:
            reason = "nobody reads this named pipe" if self.path.is_fifo() else err.strerror
            raise SinkError(
                f"cannot write events to {self.path}: {reason}; give --events another file"
            ) from err
        os.set_blocking(descriptor, True)
        super().__init__(descriptor, str(self.path))
        self._target = self.path.resolve()  # a link stays a link; what it leads to is rotated
        self._at_line_start = self._ends_with_newline()
        self._begun = self._first_event_time()

    def close(self) -> int:
        lost = super().close()
        os.close(self._fd)
        return lost

    def _write_line(self, line: bytes) -> None:
        size = self._regular_size()
        if size is not None:
            if not self._name_leads_here():
                self._reopen()
            elif self._is_due(size, len(line)):
                self._rotate()
            if self._begun is None:
                self._begun = self._now()
        super()._write_line(line)

    def _is_due(self, size: int, more: int) -> bool:
        if not size:
            return False
        limit, age = self._rotation.max_bytes, self._rotation.max_age_s
        if limit is not None and size + more > limit:
            return True
        return age is not None and self._begun is not None and self._now() - self._begun >= age

    def _rotate(self) -> None:
        """Rename the file. If that fails, it is logged once and lines go on into the same file."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # other processes with the same file wait here ...
            if self._name_leads_here():  # ... and find it done
                self._sync()
                self._shift()
                self.rotations += 1
                self._cannot_rotate = False
        except OSError as err:
            if not self._cannot_rotate:
                self._cannot_rotate = True
                _log.warning("cannot rotate %s: %s. Events go on into the same file", self.name, err.strerror)
        finally:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        if not self._name_leads_here():
            self._reopen()

    def _shift(self) -> None:
        """The oldest first, so that at every moment each event that is kept has a name."""
        for number in range(self._rotation.keep, 1, -1):
            with suppress(FileNotFoundError):
                os.replace(self._aside(number - 1), self._aside(number))
        os.replace(self._target, self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._target.with_name(f"{self._target.name}.{number}")

    def _name_leads_here(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._target), os.fstat(self._fd))
        except FileNotFoundError:
            return False
        except OSError:  # nothing can be found out about it; what is open can still be written
            return True

    def _reopen(self) -> None:
        """Open the name anew; the file moved away keeps all that was written to it. Raises OSError."""
        descriptor = os.open(self._target, _FLAGS, 0o644)
        old, self._fd = self._fd, descriptor
        with suppress(OSError):
            os.fsync(old)
        os.close(old)
        self._at_line_start = self._ends_with_newline()
        self._begun = self._first_event_time()

    def _ends_with_newline(self) -> bool:
        """False when an earlier run was cut off within a line, so that ours starts on a line of its own."""
        if not self._regular_size():
            return True
        try:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except OSError:  # may be written but not read
            return True

    def _first_event_time(self) -> float | None:
        """From the first event of an earlier run, else when that run wrote last; None for an empty file."""
        if not self._regular_size():
            return None
        try:
            with self.path.open("rb") as file:
                moment = json.loads(file.readline())["wall_time"].replace("Z", "+00:00")
                return datetime.fromisoformat(moment).timestamp()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return os.fstat(self._fd).st_mtime


def _unwritable(file: Path) -> str | None:
    """Why no events can be appended to ``file``, which is not made by asking; None when they can."""
    if len(os.fsencode(file.name)) > 255:
        return "its name is too long"
    # Not Path's own questions: they raise where a folder on the way may not be looked into.
    if os.path.isdir(file):
        return "it is a folder; name a file"
    if os.path.exists(file):
        return None if os.access(file, os.W_OK) else "it may not be written; give its owner or mode"
    if not os.path.isdir(file.parent):
        return f"there is no folder {file.parent}; make it"
    return None if os.access(file.parent, os.W_OK) else f"the folder {file.parent} may not be written"
