"""Events that are over: the newest in memory, older ones in the file of ``[runtime] events``."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.events.records import Event

KEPT = 2000
"""Events in memory."""
MOST_SEARCHED = 10_000
"""Events that are searched for an id, the newest first."""
_BLOCK = 64 * 1024
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Page:
    """Events in their order, the oldest first."""

    events: list[Event]
    complete: bool
    """False when the event to start after is not kept any more: there may be a gap before the first."""


class EventLog:
    """``add`` events in the thread of the run; read in any other. ``path``: the file of events and, as
    ``path.1`` and so on, those that were rotated; None for none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # one at a time: reading costs time that decisions could need
        self._newest: deque[Event] = deque(maxlen=KEPT)

    def add(self, event: Event) -> None:
        with self._lock:
            self._newest.append(event)

    def newest(self, count: int, wanted: Callable[[Event], bool] = lambda event: True) -> list[Event]:
        """The last ``count`` of those that are ``wanted``."""
        found: list[Event] = []
        for number, event in enumerate(self._backwards()):
            if len(found) >= count or number >= MOST_SEARCHED:
                break
            if wanted(event):
                found.append(event)
        return found[::-1]

    def since(self, id: str) -> Page:
        """All after the event with that id; all that are kept when it is not among them."""
        found: list[Event] = []
        for event in self._backwards():
            if event.get("id") == id:
                return Page(found[::-1], True)
            if len(found) >= MOST_SEARCHED:
                break
            found.append(event)
        return Page(found[::-1], False)

    def _backwards(self) -> Iterator[Event]:
        """Every event once, the newest first."""
        with self._lock:
            newest = list(self._newest)
        seen = {event["id"] for event in newest}
        yield from reversed(newest)
        with self._reading:
            for file in self._files():
                with suppress(OSError):
                    for line in _lines_backwards(file):
                        event = _event(line)
                        if event is not None and event["id"] not in seen:
                            yield event

    def _files(self) -> Iterator[Path]:
        if self._path is None:
            return
        target = self._path.resolve()
        yield target
        for number in range(1, 1001):
            aside = target.with_name(f"{target.name}.{number}")
            if not aside.is_file():
                return
            yield aside


def _event(line: bytes) -> Event | None:
    """None for a line that is no event, such as one that was cut off."""
    with suppress(ValueError, RecursionError):
        event = json.loads(line)
        if isinstance(event, dict) and isinstance(event.get("id"), str) and "type" in event:
            return event
    return None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Of a regular file. Raises OSError."""
    if not path.is_file():  # a named pipe would be read empty
        return
    with path.open("rb") as file:
        position, rest = file.seek(0, os.SEEK_END), b""
        while position > 0 and len(rest) < _LONGEST_LINE:
            size = min(_BLOCK, position)
            position -= size
            file.seek(position)
            first, *lines = (file.read(size) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            rest = first
        if rest and position == 0:
            yield rest
