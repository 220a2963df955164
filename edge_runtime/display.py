"""What people see of a run, on stderr: a line per timestep and a summary.

On a terminal a silent timestep's line is written over by the next one, so that what was said stays in
sight; into a file or a pipe every timestep gets a line of its own. Nothing here may fail a run: a stderr
that cannot be written is ignored.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # `edge-run --help` must not wait for numpy
    from edge_runtime.config import Ask
    from edge_runtime.runner import RunReport, StepView

_BAR_CELLS = 10
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CLEAR_LINE = "\r\x1b[K"
_DIM, _BOLD, _YELLOW, _RED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


class Console:
    """Lines for people. ``say`` is given to whatever has something to tell them."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.terminal = bool(stream and stream.isatty() and os.environ.get("TERM") != "dumb")
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
    """A line per timestep and per change of the stream."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def questions(self, asks: Sequence[Ask]) -> None:
        """What is asked, before anything is shown."""
        for number, ask in enumerate(asks, start=1):
            when = f" (from {ask.at:g} s)" if ask.at else ""
            self._console.line(f"q{number}{when}: {printable(ask.text)}")

    def state(self, state: str, cause: str) -> None:
        bad = state not in ("connecting", "live", "ended")
        self._console.line(printable(f"{state}: {cause}" if cause else state), style=_YELLOW if bad else _DIM)

    def step(self, time_s: float, views: Sequence[StepView]) -> None:
        clock = f"{time_s:7.1f}s" if time_s % 1 else f"{time_s:5.0f}s"
        silent = [view for view in views if not view.decision.speak]
        for view in views:
            if view.decision.speak:
                self._console.line(f"{clock}  {self._spoken(view, name=len(views) > 1)}", style=_BOLD)
        if silent:
            line = f"{clock}  {'  '.join(self._silent(view, name=len(views) > 1) for view in silent)}"
            if self._console.terminal:
                self._console.transient(line)
            else:
                self._console.line(line)

    def clear(self) -> None:
        self._console.clear()

    def _silent(self, view: StepView, *, name: bool) -> str:
        return f"{self._score(view, name)}  SILENT  {view.latency_ms:6.1f} ms"

    def _spoken(self, view: StepView, *, name: bool) -> str:
        held = f"  (held back: {view.suppressed})" if view.suppressed else ""
        return (
            f"{self._score(view, name)}  {printable(view.decision.text or '')}  "
            f"{view.latency_ms:.1f} ms{held}"
        )

    def _score(self, view: StepView, name: bool) -> str:
        full, empty = ("█", "░") if self._console.unicode else ("#", ".")
        cells = round(view.decision.score * _BAR_CELLS)
        bar = full * cells + empty * (_BAR_CELLS - cells)
        return f"{view.query + ' ' if name else ''}{bar} {view.decision.score:.2f}"


class NoDisplay:
    """For ``--quiet`` and ``--json``."""

    def state(self, state: str, cause: str) -> None:
        pass

    def step(self, time_s: float, views: Sequence[StepView]) -> None:
        pass

    def clear(self) -> None:
        pass


def summary(report: RunReport, lost: dict[str, int]) -> dict[str, Any]:
    """A run's figures as a JSON object; ``lost`` counts events by the sink that lost them."""
    told = report.telemetry
    return {
        "stream": report.stream,
        "source": report.source,
        "decoder": report.decoder,
        "bundle": report.bundle,
        "engine": report.engine,
        "ended": report.ended,
        "stream_s": round(report.stream_s, 3),
        "wall_s": round(report.wall_s, 3),
        "timesteps": told.timesteps,
        "skipped": told.skipped,
        "dropped": report.dropped,
        "reconnects": report.reconnects,
        "responses": told.responses,
        "suppressed": dict(sorted(told.suppressed.items())),
        "never_asked": list(report.never_asked),
        "latency_from": "capture" if report.live else "decoded frame",
        "decision_ms": told.decision.summary(),
        "first_text_ms": told.first_text.summary(),
        "stages_ms": {name: histogram.summary() for name, histogram in sorted(told.stages.items())},
        "events_lost": lost,
    }


def show_summary(console: Console, report: RunReport, lost: dict[str, int]) -> None:
    """A run's figures for people."""
    told = report.telemetry
    figures = summary(report, lost)
    suppressed = ", ".join(f"{count} {reason}" for reason, count in figures["suppressed"].items())
    skipped = f", {told.skipped} skipped" if told.skipped else ""
    speed = (
        f", {report.stream_s / report.wall_s:.1f} times real time"
        if not report.live and report.wall_s
        else ""
    )
    rows = [
        ("stream", f"{report.stream}: {report.ended or 'failed'}"),
        ("watched", f"{report.stream_s:g} s in {report.wall_s:.1f} s{speed}"),
        ("timesteps", f"{told.timesteps}{skipped}"),
        (
            "responses",
            f"{told.responses}, held back {told.suppressed_total}{f' ({suppressed})' if suppressed else ''}",
        ),
        (f"decision, from {figures['latency_from']}", _latency(figures["decision_ms"])),
        ("first text", _latency(figures["first_text_ms"])),
        ("dropped frames", f"{report.dropped}"),
        ("decoder", report.decoder or "none: no picture came"),
        ("engine", f"{report.engine}; model {report.bundle}"),
    ]
    if report.live:
        rows.insert(7, ("reconnects", f"{report.reconnects}"))
    console.line("")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.line(f"{name:<{width}}  {printable(value)}")
    for query in report.never_asked:
        console.line(f"{query} was never asked: the stream ended before its --ask-at time", style=_YELLOW)


def show_summary_json(console: Console, report: RunReport, lost: dict[str, int]) -> None:
    """A run's figures as one line of JSON."""
    console.line(json.dumps(summary(report, lost)))


def show_error(console: Console, message: str) -> None:
    console.line(f"edge-run: error: {printable(message)}", style=_RED)


def warner(console: Console) -> Callable[[str], None]:
    """A function that tells people of something that went wrong but does not end the run."""
    return lambda message: console.line(f"edge-run: warning: {printable(message)}", style=_YELLOW)


def printable(text: str) -> str:
    """``text`` without what a terminal would obey rather than show."""
    return _OBEYED.sub("\ufffd", text)


def _latency(figures: dict[str, Any]) -> str:
    if not figures["n"]:
        return "none"
    return "  ".join(f"{name} {figures[name]:.1f}" for name in ("p50", "p90", "p99", "max")) + " ms"
