"""Which of the model's responses reach the outside: minimum gap and repeat suppression, with visible counts.

The decision threshold is applied earlier, by the session: a response below it is never generated, so the
model's own context holds only what it was allowed to say. :class:`PolicySettings` carries it because it is
set in the same places as the rest.

The default lets every distinct answer through and holds back only the same words said again within a few
seconds, which is what a receiver would call spam; a step that truly happens again later is reported again.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MIN_GAP_S = 0.0
DEFAULT_REPEAT_S = 5.0

EMPTY = "empty"
MIN_GAP = "min_gap"
REPEAT = "repeat"


@dataclass(frozen=True)
class PolicySettings:
    """When a response of one query may go out. Raises ValueError naming the setting that cannot be."""

    threshold: float | None = None
    """The score from which the model speaks, 0..1; None for the bundle's own."""
    min_gap_s: float = DEFAULT_MIN_GAP_S
    """Seconds of stream that must lie between two responses of the same query."""
    repeat_s: float = DEFAULT_REPEAT_S
    """Seconds of stream within which the same words are not said again."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1, got {self.threshold}")
        for name, value in (("min_gap", self.min_gap_s), ("repeat", self.repeat_s)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a number of seconds >= 0, got {value}")


class ResponsePolicy:
    """The policy of one query. ``review`` each response; call ``delivered`` once it has really gone out.

    A response that could not be written starts no gap and counts as no repeat: the next try must not be lost.
    """

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings
        self._last: float | None = None
        self._said: dict[str, float] = {}

    def review(self, time_s: float, text: str) -> str | None:
        """None when the response may go out, else the reason it may not (empty, min_gap, repeat)."""
        words = normalise(text)
        if not words:
            return EMPTY
        said = self._said.get(words)
        if said is not None and time_s - said < self.settings.repeat_s:
            return REPEAT
        if self._last is not None and time_s - self._last < self.settings.min_gap_s:
            return MIN_GAP
        return None

    def delivered(self, time_s: float, text: str) -> None:
        """Note that a response went out at ``time_s`` of the stream."""
        self._last = time_s
        oldest = time_s - self.settings.repeat_s
        self._said = {words: said for words, said in self._said.items() if said > oldest}
        self._said[normalise(text)] = time_s


def normalise(text: str) -> str:
    """The words of a text alone: case, punctuation at the ends of words and spacing do not count."""
    words = (word.strip(".,;:!?\"'()[]") for word in text.casefold().split())
    return " ".join(word for word in words if word)
