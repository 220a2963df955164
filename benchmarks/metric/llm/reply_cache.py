"""Replies of paid servers, kept on disk under the hash of what was asked: no question is paid for twice.

A JSON Lines file that is only ever appended to, one whole line per reply, on the disk before the reply is
used. Several processes may share one file: each reads it when it begins and locks it while it adds a line.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from benchmarks.metric.annotations import FormatError, dump_line
from edge_runtime.errors import SinkError


def content_key(request: dict[str, Any]) -> str:
    """SHA-256 of a request's content; the order of its keys does not matter."""
    plain = json.dumps(request, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode("ascii")).hexdigest()


class ReplyCache:
    """Replies by content key. Safe for threads. Of two replies to one key the later one counts."""

    def __init__(self, path: Path) -> None:
        """Read ``path`` if it exists; a last line cut short by a kill is dropped.

        Raises FormatError for any other line that is no reply, SinkError when the file cannot be used.
        """
        self.path = path
        self._lock = threading.Lock()
        self._replies: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # nobody is in the middle of a line
                file.seek(0)
                data = file.read()
                whole = data.rfind(b"\n") + 1
                if whole < len(data):
                    file.truncate(whole)
        except OSError as error:
            raise self._unusable(error) from error
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
            self._add(number, line)

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: str) -> str | None:
        """The reply kept under ``key``, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: str, note: dict[str, Any]) -> None:
        """Keep one reply; it is on the disk when this returns. ``note``: written beside it, for people."""
        line = dump_line({"key": key, "reply": reply, **note}).encode("utf-8")
        with self._lock:
            try:
                with self.path.open("ab", buffering=0) as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    file.write(line)
                    os.fsync(file.fileno())
            except OSError as error:
                raise self._unusable(error) from error
            self._replies[key] = reply

    def _add(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            key, reply = record["key"], record["reply"]
        except (ValueError, KeyError, TypeError):
            key = reply = None
        if not isinstance(key, str) or not isinstance(reply, str):
            message = f"{self.path}, line {number}: expected a kept reply with 'key' and 'reply'"
            raise FormatError(f"{message}; remove the line, or choose another file")
        self._replies[key] = reply

    def _unusable(self, error: OSError) -> SinkError:
        return SinkError(f"{self.path}: cannot be used ({error.strerror}); choose another file")
