"""What people see of a run, on stderr: a line per timestep; :mod:`edge_runtime.app.run.summary` is what it
ends with.

On a terminal a silent timestep's line is written over by the next one, so that what was said stays in
sight; into a file or a pipe every timestep gets a line of its own. Nothing here may fail a run: a stderr
that cannot be written is ignored.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # `edge-run --help` must not wait for numpy
    from edge_runtime.engine.decision_loop import Step
    from edge_runtime.events.query_config import QueryConfig

_BAR_CELLS = 10
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CLEAR_LINE = "\r\x1b[K"
_DIM, _BOLD, YELLOW, _RED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


class Console:
    """Lines for people. ``say`` is given to whatever has something to tell them."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.on_terminal = bool(stream and stream.isatty())
        self.terminal = self.on_terminal and os.environ.get("TERM") != "dumb"
        """It can write over a line."""
        self.colour = self.terminal and "NO_COLOR" not in os.environ
        encoding = (getattr(stream, "encoding", None) or "ascii").lower()
        self.unicode = encoding.replace("-", "").startswith("utf")
        self.scrub: Callable[[str], str] = lambda text: text
        """Takes secrets out of whatever is shown."""
        self._transient = False

    def line(self, text: str, *, style: str = "") -> None:
        """A line that stays."""
        self.clear()
        text = self.scrub(text)
        self._write((f"{style}{text}{_RESET}" if style and self.colour else text) + "\n")

    def transient(self, text: str) -> None:
        """A line that the next one replaces; only for terminals."""
        width = shutil.get_terminal_size().columns - 1
        text = text[:width]
        self._write(_CLEAR_LINE + (f"{_DIM}{text}{_RESET}" if self.colour else text))
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


class LiveDisplay:
    """A line per timestep and per change of the stream.

    With several cameras ``name`` says whose it is; ``board``, which they share, holds the last silent
    timestep of each, so that the line that is written over shows them all.
    """

    def __init__(self, console: Console, name: str = "", board: dict[str, str] | None = None) -> None:
        self._console = console
        self._name = name
        self._prefix = f"{printable(name)}  " if name else ""
        self._board = {} if board is None else board

    def questions(self, queries: Sequence[QueryConfig]) -> None:
        """What is asked, before anything is shown."""
        for number, ask in enumerate(queries, start=1):
            when = f" (from {ask.at:g} s)" if ask.at else ""
            self._console.line(f"{self._prefix}q{number}{when}: {printable(ask.text)}")

    def state(self, state: str, cause: str) -> None:
        bad = state not in ("connecting", "live", "ended")
        text = printable(f"{state}: {cause}" if cause else state)
        self._console.line(f"{self._prefix}{text}", style=YELLOW if bad else _DIM)
        if state in ("ended", "failed"):
            self._board.pop(self._name, None)

    def step(self, time_s: float, views: Sequence[Step]) -> None:
        clock = f"{time_s:7.1f}s" if time_s % 1 else f"{time_s:5.0f}s"
        silent = [view for view in views if not view.decision.speak]
        for view in views:
            if view.decision.speak:
                said = self._spoken(view, name=len(views) > 1)
                self._console.line(f"{self._prefix}{clock}  {said}", style=_BOLD)
        if silent:
            scores = "  ".join(self._silent(view, name=len(views) > 1) for view in silent)
            line = f"{self._prefix}{clock}  {scores}"
            if self._console.terminal:
                self._board[self._name] = line
                self._console.transient("   ".join(self._board.values()))
            else:
                self._console.line(line)

    def clear(self) -> None:
        self._console.clear()

    def _silent(self, view: Step, *, name: bool) -> str:
        return f"{self._score(view, name)}  SILENT  {view.latency_ms['decision']:6.1f} ms"

    def _spoken(self, view: Step, *, name: bool) -> str:
        held = f"  (held back: {view.suppressed})" if view.suppressed else ""
        return (
            f"{self._score(view, name)}  {printable(view.decision.text or '')}  "
            f"{view.latency_ms['decision']:.1f} ms{held}"
        )

    def _score(self, view: Step, name: bool) -> str:
        full, empty = ("█", "░") if self._console.unicode else ("#", ".")
        cells = round(view.decision.score * _BAR_CELLS)
        bar = full * cells + empty * (_BAR_CELLS - cells)
        return f"{view.query + ' ' if name else ''}{bar} {view.decision.score:.2f}"


class NoDisplay:
    """For ``--quiet`` and ``--json``."""

    def state(self, state: str, cause: str) -> None:
        pass

    def step(self, time_s: float, views: Sequence[Step]) -> None:
        pass

    def clear(self) -> None:
        pass


def show_error(console: Console, message: str) -> None:
    console.line(f"edge-run: error: {printable(message)}", style=_RED)


def teller(console: Console) -> Callable[[str], None]:
    """A function that tells people of something that went as it should."""
    return lambda message: console.line(f"edge-run: {printable(message)}")


def warner(console: Console) -> Callable[[str], None]:
    """A function that tells people of something that went wrong but does not end the run."""
    return lambda message: console.line(f"edge-run: warning: {printable(message)}", style=YELLOW)


def printable(text: str) -> str:
    """``text`` without what a terminal would obey rather than show."""
    return _OBEYED.sub("\ufffd", text)
