"""What a session decided at one timestep, and which of its queries that answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Decision:
    """What the model decided at the end of one timestep."""

    time: float
    """End of the interval in seconds of the stream; the moment the decision is about."""
    interval: tuple[float, float]
    score: float
    """Probability of speaking (softmax over the two decision tokens); 0.0 while no query is active. A session
    of several queries has one score for all of them."""
    speak: bool
    text: str | None = None
    """The response, never empty; None for silence. A line for each query that it answers."""
    query: str | None = None
    """Id of the query in force: the one asked last when there are several; None when there is none."""
    tokens: tuple[int, ...] = ()
    """Ids of the text's tokens."""
    timing: dict[str, float] = field(default_factory=dict, compare=False)
    """Milliseconds. Durations: ``preprocess`` and ``vision`` (absent with
    :meth:`StreamSession.push_tokens`), ``evict`` (only when slots moved), ``append``. From the start of the
    push: ``decision``, ``first_token`` (only when it speaks), ``total``.
    """
    answers: Mapping[str, str] = field(default_factory=dict)
    """Id of a query to what the response says to it."""
    unattributed: tuple[str, ...] = ()
    """Lines of the generated text that name no active query. They are part of no answer."""
    silence: str | None = None
    """Which silence the turn ends with, such as ``</Standby>``, where the stream format has several."""
    delegated: str | None = None
    """What the response hands to another model; it is not part of ``text``."""
    decided: bool = True
    """False for a frame that only waits for the others of its turn."""

    @property
    def response(self) -> bool:
        """True when the model speaks."""
        return self.speak

    def about(self, query: str) -> Decision:
        """The same decision as one query of the session sees it: silence when only others are answered."""
        text = self.answers.get(query)
        return replace(
            self,
            speak=text is not None,
            text=text,
            query=query,
            answers={} if text is None else {query: text},
        )
