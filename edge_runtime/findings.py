"""The result of an examination: a mistake in a configuration file, or the state of one part of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of ``edge-run check`` or ``edge-run doctor``."""

    subject: str
    """What was examined: a package, a device, or a configuration key with its tables (``runtime.bundle``)."""
    status: Status
    """``fail``: a run would not start or not deliver; ``warn``: it would, with less than it could have."""
    detail: str
    remedy: str = ""
    """A command or an action; empty when there is nothing to do."""
    file: Path | None = None
    line: int | None = None
    exit_code: int = 2
    """The exit code of a run that fails because of this; by default that of ConfigError."""

    def __str__(self) -> str:
        """``FILE:LINE: SUBJECT: DETAIL``, each as far as it is known."""
        place = f"{self.file}:{self.line}" if self.line else str(self.file or "")
        return ": ".join(part for part in (place, self.subject, self.detail) if part)
