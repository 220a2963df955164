"""What is asked of a stream: a text, from when on, and the policy of its responses."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_runtime.events.policy import PolicySettings


@dataclass(frozen=True)
class QueryConfig:
    """One query of one stream."""

    text: str
    at: float = 0.0
    """Seconds of the stream from which it is watched for."""
    policy: PolicySettings = field(default_factory=PolicySettings)
    ask_anyway: bool = False
    """Ask it even if it lies outside what the model was trained for."""
    paused: bool = False
    """Not watched for until that changes; it costs nothing meanwhile, and its memory has a gap there."""
