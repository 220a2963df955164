"""What the assistant's side of a turn holds, as a session keeps it until the next timestep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AssistantSide:
    """What a turn ends with. ``pending``: ids that are not in the cache yet. The rest: see
    :class:`edge_runtime.engine.decision.Decision`.
    """

    pending: list[int]
    tokens: tuple[int, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    unattributed: tuple[str, ...] = ()
    delegated: str | None = None
    silence: str | None = None
