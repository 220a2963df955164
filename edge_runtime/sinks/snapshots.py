"""Snapshots of responses, read from the folder of evidence for sinks that send them along.

A snapshot is written while its event is already on the way, so a sender may have to wait for it. It waits in
its own thread, and never beyond a few seconds after the event: a snapshot that was deleted or could not be
written must not hold up a backlog.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.sinks.outbox import OutboxRecord

WAIT_S = 3.0
"""How long after its event a snapshot may appear. Shorter than the time for sending at the end of a run."""
_LOOK_EVERY_S = 0.05


class Snapshots:
    """Those in ``folder``; None when no evidence is kept. ``now``: the wall clock in seconds."""

    def __init__(self, folder: Path | None, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def find(self, event: Mapping[str, Any]) -> Path | None:
        """Return where the event's snapshot is or will be; None when the event names none."""
        evidence = event.get("evidence")
        name = evidence.get("snapshot") if isinstance(evidence, dict) else None
        # An outbox is a file, and what it names must not lead out of the folder.
        if self._folder is None or not isinstance(name, str) or Path(name).name != name:
            return None
        return self._folder / name

    def wait(self, record: OutboxRecord) -> bytes | None:
        """Return the JPEG of a waiting event; None when it has none, or it did not appear in time."""
        if self._folder is None or record.type != "response":
            return None
        path = self.find(json.loads(record.body))
        if path is None:
            return None
        left = min(WAIT_S, record.written + WAIT_S - self._now())
        until = time.monotonic() + left
        while (picture := read(path)) is None and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
        return picture


def read(path: Path) -> bytes | None:
    """Return the file's bytes; None when it cannot be read. Evidence appears whole or not at all."""
    try:
        return path.read_bytes()
    except OSError:
        return None
