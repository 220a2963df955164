"""What people see of a run on stderr: a line per timestep; :mod:`edge_runtime.app.run.summary` ends it.

On a terminal a silent timestep's line is replaced by the next one, so that responses stay visible; in a
file or a pipe every timestep has a line of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_runtime.observability.console import BOLD, DIM, YELLOW, Console, printable

if TYPE_CHECKING:  # `edge-run --help` must not wait for numpy
    from edge_runtime.engine.decision_loop import Step
    from edge_runtime.events.query_config import QueryConfig

_BAR_CELLS = 10


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
        self._console.line(f"{self._prefix}{text}", style=YELLOW if bad else DIM)
        if state in ("ended", "failed"):
            self._board.pop(self._name, None)

    def step(self, time_s: float, views: Sequence[Step]) -> None:
        clock = f"{time_s:7.1f}s" if time_s % 1 else f"{time_s:5.0f}s"
        silent = [view for view in views if not view.decision.speak]
        for view in views:
            if view.decision.speak:
                said = self._spoken(view, name=len(views) > 1)
                self._console.line(f"{self._prefix}{clock}  {said}", style=BOLD)
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
