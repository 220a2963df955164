"""What evidence is kept of responses, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

CLIP = ("masked", "off")


@dataclass(frozen=True)
class EvidenceSettings:
    """What is kept of one camera's responses."""

    pre_s: float = 5.0
    """Seconds before the response that a clip shows, at least."""
    post_s: float = 5.0
    """Seconds after it."""
    snapshot: bool = True
    clip: str = "masked"
    """``masked``: clips, encoded anew where privacy masks hide something; ``off``: no clips."""
    buffer_bytes: int = 64 << 20
    """Most encoded video of the camera that is held in memory."""


@dataclass(frozen=True)
class Retention:
    """What stays in the folder; None: no limit of that kind."""

    max_age_s: float | None = None
    max_events: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class EvidenceConfig:
    """``[evidence]``."""

    folder: Path | None = None
    """None: no evidence is kept."""
    retention: Retention = field(default_factory=Retention)
    settings: EvidenceSettings = field(default_factory=EvidenceSettings)
    """What cameras without a table of their own use."""
