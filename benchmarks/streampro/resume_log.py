"""The file a run writes into while it lasts: a kill at any moment loses no answer and repeats none.

``OUT.partial`` holds one line about the run (model, annotations, threshold), then a prediction line for each
question answered, flushed to the disk one by one. A run that finds such a file of the same settings goes
on after its last whole line; of other settings, it refuses. When every question is answered, the
predictions are written to ``OUT`` in the order of the annotations by a rename, and the partial file is
removed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.metric.annotations import (
    Annotation,
    FormatError,
    Prediction,
    dump_line,
    parse_prediction,
    write_predictions,
)
from edge_runtime.errors import ConfigError, SinkError


class ResumeLog:
    """Answers so far. A context manager; one process at a time. Not for several threads at once."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        """Open or create ``out`` + ``.partial``.

        Raises ConfigError when ``out`` exists already, when another run holds the file, or when it was
        begun with other ``settings``; SinkError when it cannot be written.
        """
        if out.exists():
            raise ConfigError(f"{out}: exists already; choose another --out or remove it")
        self.path = out.with_name(out.name + ".partial")
        self._out = out
        self.done: dict[str, Prediction] = {}
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._resume(settings)
        except BaseException:
            self._file.close()
            raise

    def append(self, prediction: Prediction) -> None:
        """Add one answer; it is on the disk when this returns. Raises SinkError, e.g. for a full disk."""
        if prediction.id in self.done:
            raise ValueError(f"{prediction.id} is answered already")
        self._write(prediction.to_dict())
        self.done[prediction.id] = prediction

    def finish(self, annotations: Sequence[Annotation]) -> None:
        """Write the whole file in the order of ``annotations`` and remove the partial one."""
        write_predictions(self._out, [self.done[annotation.id] for annotation in annotations])
        self.path.unlink()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> ResumeLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"{self.path}: another run is writing it; wait for it or choose another --out"
            raise ConfigError(message) from error

    def _resume(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # the last line was cut short by a kill
            self._file.truncate(len(whole))
        if not whole:
            self._write({"run": settings})
            return
        head, *lines = whole.decode("utf-8").removesuffix("\n").split("\n")
        begun = self._settings(head)
        if begun != settings:
            changed = ", ".join(sorted(k for k in begun | settings if begun.get(k) != settings.get(k)))
            message = f"{self.path}: begun with other settings ({changed})"
            raise ConfigError(f"{message}; remove it or choose another --out")
        for number, text in enumerate(lines, start=2):
            prediction = parse_prediction(text, self.path, number)
            self.done[prediction.id] = prediction

    def _settings(self, head: str) -> dict[str, Any]:
        try:
            run = json.loads(head)["run"]
        except (ValueError, KeyError, TypeError):
            run = None
        if not isinstance(run, dict):
            raise FormatError(
                f"{self.path}, line 1, key 'run': expected the settings of a run; remove the file"
            )
        return run

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self._file.write(dump_line(record).encode("utf-8"))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> SinkError:
        return SinkError(f"{self.path}: cannot be written ({error.strerror}); choose another --out")
