"""Progress of a run on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 30.0
"""Pause between lines when nobody watches a terminal."""


class RunProgress:
    """Counts questions; time left follows from the seconds of video, since clips differ in length.

    ``unit``: what is counted, when it is not questions.
    """

    def __init__(self, console: Console, questions: int, video_s: float, unit: str = "questions") -> None:
        self._console, self._unit = console, unit
        self._questions, self._video_s = questions, video_s
        self._done, self._watched_s = 0, 0.0
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=600.0,
        )
        self._task = self._bar.add_task(self._description(), total=video_s)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, video_s: float) -> None:
        """One more question is answered, on a clip of ``video_s`` seconds."""
        self._done += 1
        self._watched_s += video_s
        self._bar.update(self._task, advance=video_s, description=self._description())
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            left_s = (now - self._started) * (self._video_s - self._watched_s) / self._watched_s
            self._console.print(f"{self._description()}, {left_s / 60:.1f} min left", highlight=False)

    def _description(self) -> str:
        return f"{self._done}/{self._questions} {self._unit}"
