"""Read a source to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.camera import Frame, StateChange, open_camera


def read(
    source: Path | str, fps: float = 1.0, **arguments: Any
) -> tuple[list[Frame], list[StateChange], SourceError | None]:
    """Frames, changes of state, and how it failed, if it did: in one line, with a next step."""
    frames: list[Frame] = []
    changes: list[StateChange] = []
    try:
        with open_camera(str(source), fps=fps, **arguments) as camera:
            for item in camera:
                if isinstance(item, Frame):
                    frames.append(item)
                else:
                    changes.append(item)
    except SourceError as error:
        assert "\n" not in str(error) and "; " in str(error), "a next step is missing"
        return frames, changes, error
    return frames, changes, None
