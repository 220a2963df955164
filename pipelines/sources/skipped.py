"""Name the parts of a source that were skipped, such as image files that cannot be read."""

from __future__ import annotations

import os

from pipelines.sources.address import printable

_REPORTED = 10
"""So many are reported when it happens; the end of the source reports how many there were."""
_NAMED = 5
"""So many are named in the end."""


class Skipped:
    """Counts and names them. ``note`` is called on one of GStreamer's threads."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []
        """The first ones, each with its reason: ``4.jpg (the file is empty)``."""

    def note(self, path: str, reason: str) -> str:
        """Count one more; returns the words for it, empty when enough were reported."""
        self.count += 1
        text = f"{printable(os.path.basename(path))} ({reason})"
        if self.count <= _NAMED:
            self.names.append(text)
        return f"skipped {text}" if self.count <= _REPORTED else ""

    def listed(self) -> str:
        """All that are named, and how many more there are."""
        more = f" and {self.count - _NAMED} more" if self.count > _NAMED else ""
        return ", ".join(self.names) + more
