"""Lines for people on a terminal, in a file or in a pipe. A stream that cannot be written is ignored: what
people see must not fail a run.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from typing import TextIO

from edge_runtime.redaction import scrub

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CLEAR_LINE = "\r\x1b[K"
DIM, BOLD, YELLOW, RED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


class Console:
    """Lines that stay, and one that the next line replaces. Secrets are redacted."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.on_terminal = bool(stream and stream.isatty())
        self.terminal = self.on_terminal and os.environ.get("TERM") != "dumb"
        """It can write over a line."""
        self.colour = self.terminal and "NO_COLOR" not in os.environ
        encoding = (getattr(stream, "encoding", None) or "ascii").lower()
        self.unicode = encoding.replace("-", "").startswith("utf")
        self._transient = False

    def line(self, text: str, *, style: str = "") -> None:
        """A line that stays."""
        self.clear()
        text = scrub(text)
        self._write((f"{style}{text}{_RESET}" if style and self.colour else text) + "\n")

    def transient(self, text: str) -> None:
        """A line that the next one replaces; only for terminals."""
        width = shutil.get_terminal_size().columns - 1
        text = text[:width]
        self._write(_CLEAR_LINE + (f"{DIM}{text}{_RESET}" if self.colour else text))
        self._transient = True

    def clear(self) -> None:
        """Remove the transient line."""
        if self._transient:
            self._transient = False
            self._write(_CLEAR_LINE)

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()


def printable(text: str) -> str:
    """``text`` without what a terminal would obey rather than show."""
    return _CONTROL.sub("\ufffd", text)
