"""The log of a training run."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from benchmarks.metric.progress import say


class RunLog:
    """Lines for people: on stderr and, with the time of day, in ``path``. Not where ``speaks`` is False."""

    def __init__(self, path: Path, speaks: bool) -> None:
        self._path, self._speaks = path, speaks

    def __call__(self, text: str) -> None:
        if not self._speaks:
            return
        say(text)
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {text}\n")  # saving a state reports a full disk
