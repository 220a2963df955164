"""The folder of evidence: ``<event id>.jpg`` and ``<event id>.mp4``, and what of them is kept.

Nothing is remembered: before each decision the folder is looked at, so files of earlier runs, of other
processes, and those that somebody deleted are counted as they are. Files with other names are never touched.
A file's modification time is the time of its event.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.atomic_write import whole_file
from edge_runtime.errors import SinkError
from edge_runtime.events.evidence_config import Retention

SNAPSHOT, CLIP = ".jpg", ".mp4"
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NAME = re.compile(rf"([{_DIGITS}]{{26}})(\.jpg|\.mp4)")
_TEMPORARY = re.compile(rf"\.[{_DIGITS}]{{26}}\.(?:jpg|mp4)\.\d+\.tmp(?:\.moov)?")
_ABANDONED_S = 1800.0
"""A temporary file that was not written to for so long belongs to a run that was killed."""


@dataclass(eq=False)
class _Event:
    """The files of one event with their sizes."""

    stem: str
    time: float = float("inf")
    size: int = 0
    files: dict[Path, int] = field(default_factory=dict)

    def delete(self) -> None:
        for file in self.files:
            with suppress(FileNotFoundError):
                file.unlink()


class EvidenceStore:
    """For any number of threads and processes. ``now``: the wall clock in seconds.

    Makes the folder, and removes what ``retention`` does not keep. Raises SinkError when the folder cannot be
    used.
    """

    def __init__(self, folder: Path, retention: Retention, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._retention = retention
        self._now = now
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self.tidy()
        except OSError as err:
            raise SinkError(
                f"evidence cannot be kept in {folder}: {err.strerror}; give --evidence another folder"
            ) from err

    def write(self, event: str, ending: str, event_time: float, make: Callable[[Path], None]) -> bool:
        """Let ``make(path)`` write a file of the event; it appears whole under its name, or not at all.

        Room is made before it appears, so the limits hold at every moment. False: by those limits it is not
        to be kept. Raises OSError and what ``make`` raises.
        """
        path = self.folder / f"{file_stem(event)}{ending}"
        try:
            with self._lock, whole_file(path) as temporary:
                make(temporary)
                if not self._make_room(path, event_time, temporary.stat().st_size):
                    raise _NotKeptError
                os.utime(temporary, (event_time, event_time))
        except _NotKeptError:
            return False
        return True

    def tidy(self) -> None:
        """Delete what is not to be kept: the oldest events first, each with all its files. Raises OSError."""
        for event in self._beyond_limits(self._look()):
            event.delete()

    def _make_room(self, path: Path, event_time: float, size: int) -> bool:
        """Do the same as if there were a file at ``path``; False when that would go itself."""
        events = self._look()
        event = events.setdefault(path.stem, _Event(path.stem))
        replaced = event.files.pop(path, None)
        event.size += size - (replaced or 0)
        event.time = min(event.time, event_time)
        beyond = self._beyond_limits(events)
        for one in beyond:
            one.delete()
        return event not in beyond

    def _beyond_limits(self, events: Mapping[str, _Event]) -> list[_Event]:
        limits = self._retention
        oldest_first = sorted(events.values(), key=lambda one: (one.time, one.stem))
        left, size = len(oldest_first), sum(one.size for one in oldest_first)
        beyond = []
        for event in oldest_first:
            too_old = limits.max_age_s is not None and self._now() - event.time > limits.max_age_s
            too_many = limits.max_events is not None and left > limits.max_events
            too_big = limits.max_bytes is not None and size > limits.max_bytes
            if not (too_old or too_many or too_big):
                break
            beyond.append(event)
            left, size = left - 1, size - event.size
        return beyond

    def _look(self) -> dict[str, _Event]:
        """What is in the folder; abandoned temporary files are deleted."""
        events: dict[str, _Event] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                name = _NAME.fullmatch(entry.name)
                if name is None and not _TEMPORARY.fullmatch(entry.name):
                    continue
                with suppress(FileNotFoundError):  # another process tidies, too
                    status = entry.stat(follow_symlinks=False)
                    if name is not None and stat.S_ISREG(status.st_mode):
                        event = events.setdefault(name[1], _Event(name[1]))
                        event.time = min(event.time, status.st_mtime)
                        event.size += status.st_size
                        event.files[self.folder / entry.name] = status.st_size
                    elif name is None and self._now() - status.st_mtime > _ABANDONED_S:
                        os.unlink(entry.path)
        return events


class _NotKeptError(Exception):
    """By the limits a file is not to be kept."""


def file_stem(event: str) -> str:
    """The name of an event's files without ending: its id, or a hash where that is no safe name."""
    if re.fullmatch(f"[{_DIGITS}]{{26}}", event):
        return event
    value = int.from_bytes(hashlib.sha256(event.encode("utf-8", "surrogatepass")).digest()[:16], "big")
    return "".join(_DIGITS[(value >> shift) & 31] for shift in range(125, -1, -5))
