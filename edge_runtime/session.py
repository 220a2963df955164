"""One stream, its queries and its decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edge_runtime.model import Model


@dataclass(frozen=True)
class Decision:
    """What the model decided at the end of one timestep."""

    time: float
    """End of the interval in seconds of the stream; the moment the decision is about."""
    interval: tuple[float, float]
    score: float
    """Probability of speaking (softmax over the two decision tokens); 0.0 while no query is active."""
    speak: bool
    text: str | None = None
    """The response, never empty; None for silence."""
    query: str | None = None
    """Id of the query in force: the one asked last when there are several; None before any query."""
    tokens: tuple[int, ...] = ()
    """Ids of the text's tokens."""
    timing: dict[str, float] = field(default_factory=dict, compare=False)
    """Milliseconds per stage: preprocess, vision, append, total; first_token when it speaks; evict when rows moved."""

    @property
    def response(self) -> bool:
        """True when the model speaks."""
        return self.speak


class StreamSession:
    """A stream being watched. Not for several threads at once; sessions of one model may run in parallel."""

    def __init__(self, model: Model, *, threshold: float = 0.5) -> None:
        raise NotImplementedError

    @property
    def queries(self) -> dict[str, str]:
        """Active queries, id to text, in the order they were asked."""
        raise NotImplementedError

    def ask(self, text: str, *, id: str | None = None) -> str:
        raise NotImplementedError

    def remove(self, query_id: str) -> None:
        raise NotImplementedError

    def push(self, frame: Any, t: float) -> Decision | None:
        raise NotImplementedError

    def push_tokens(self, visual_tokens: NDArray[np.float32], index: int) -> Decision:
        raise NotImplementedError

    def reset(self, *, keep_queries: bool = False) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
