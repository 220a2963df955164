"""Say which pictures of a sequence were skipped, when it happens and in the end.

A skipped picture is an error once all others were shown, as a truncated file is: not everything was watched.
"""

from __future__ import annotations

import os

from edge_runtime.errors import SourceError
from pipelines.pipeline.frame_queue import StateChange
from pipelines.sources.errors import Problem, no_pictures
from pipelines.sources.images.paths import list_pictures
from pipelines.sources.registry import ImagesSource, printable

_TOLD = 10
"""So many are told at once; of the others, as of all, the end of the sequence tells how many there are."""
_NAMED = 5
"""So many are named in the end."""
_HINT = "remove them or save them again as JPEG or PNG"


class SkippedPictures:
    """Counts and names them. ``note`` is called on one thread of GStreamer's, ``end`` when it is over."""

    def __init__(self) -> None:
        self._count = 0
        self._named: list[str] = []

    def note(self, path: str, reason: str, state: str) -> StateChange | None:
        """One more; the record for it, or None when enough were told. ``state``: what the source does."""
        self._count += 1
        text = f"{printable(os.path.basename(path))} ({reason})"
        if self._count <= _NAMED:
            self._named.append(text)
        return StateChange(state, f"skipped {text}") if self._count <= _TOLD else None

    def end(self, source: ImagesSource, shown: int) -> tuple[StateChange, SourceError | None]:
        """The last record, and the error when not all pictures were shown."""
        problem = self._problem(source, shown)
        causes = [problem.cause if problem else f"end of the pictures, {shown} shown"]
        if behind := list_pictures(source.path).behind_a_gap:
            first = printable(os.path.basename(behind[0]))
            causes.append(
                f"not shown, as a number before is missing: {first} and all after it ({len(behind)})"
            )
        error = SourceError(problem.line(source.label), permanent=True) if problem else None
        return StateChange("ended" if shown else "failed", "; ".join(causes)), error

    def _problem(self, source: ImagesSource, shown: int) -> Problem | None:
        if not self._count:
            return None if shown else no_pictures()
        if not shown and self._named and os.path.isfile(source.path):
            reason = self._named[0].partition(" (")[2].removesuffix(")")
            return Problem(
                f"the picture cannot be read: {reason}", "save it again as JPEG or PNG", "permanent"
            )
        names = ", ".join(self._named)
        more = f" and {self._count - _NAMED} more" if self._count > _NAMED else ""
        return Problem(f"skipped {self._count} of {self._count + shown} pictures: {names}{more}", _HINT)
