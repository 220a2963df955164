"""Which of the model's responses reach the outside, and why the others do not; each reason is counted.

    debounce      the model spoke in k of the last n timesteps: one odd frame raises no alarm
    min_gap       the cooldown after a response
    repeat        the same text not again within a few seconds
    budget        at most so many responses in any hour
    quiet_hours   none between two times of day; live sources only, for a recording has no time of day

Cooldown, repeats and budget count only what has been delivered.

The decision threshold is applied earlier, by the session: a response below it is never generated, so the
model's own context holds only what it was allowed to say. :class:`PolicySettings` carries it because it is
set in the same places as the rest.

The default lets every distinct answer through and holds back only the same words said again within a few
seconds, which is what a receiver would call spam; a step that truly happens again later is reported again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time

DEFAULT_MIN_GAP_S = 0.0
DEFAULT_REPEAT_S = 5.0

EMPTY = "empty"
MIN_GAP = "min_gap"
REPEAT = "repeat"
DEBOUNCE = "debounce"
BUDGET = "budget"
QUIET_HOURS = "quiet_hours"
UNATTRIBUTED = "unattributed"
"""Not a policy: a session of several queries gave a text that names none of them."""

_HOUR_S = 3600.0


@dataclass(frozen=True)
class PolicySettings:
    """When a response of one query may go out. Raises ValueError naming the setting that cannot be."""

    threshold: float | None = None
    """The score from which the model speaks, 0..1; None for the bundle's own."""
    min_gap_s: float = DEFAULT_MIN_GAP_S
    """Seconds of stream that must lie between two responses of the same query."""
    repeat_s: float = DEFAULT_REPEAT_S
    """Seconds of stream within which the same words are not said again."""
    debounce: tuple[int, int] = (1, 1)
    """(k, n): the model must have spoken in k of the last n timesteps, this one among them."""
    budget_per_hour: int | None = None
    """Most responses of one query within 3600 s of stream; None for no limit."""
    quiet_hours: tuple[time, time] | None = None
    """From the first to before the second local time of day nothing goes out; it may pass midnight."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1, got {self.threshold}")
        for name, value in (("min_gap", self.min_gap_s), ("repeat", self.repeat_s)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a number of seconds >= 0, got {value}")
        if not 1 <= self.debounce[0] <= self.debounce[1]:
            raise ValueError(f"debounce must be (k, n) with 1 <= k <= n, got {self.debounce}")
        if self.budget_per_hour is not None and self.budget_per_hour < 1:
            raise ValueError(f"budget_per_hour must be at least 1, got {self.budget_per_hour}")


class ResponsePolicy:
    """The policy of one query.

    ``observe`` each timestep, ``review`` each response, and call ``delivered`` once it has really gone out.
    ``now`` is the local time; None for a recording, which keeps no quiet hours.

    ``settings`` may be replaced at any time; what was delivered before still counts.

    A response that could not be written starts no gap and counts as no repeat: the next try must not be lost.
    """

    def __init__(self, settings: PolicySettings, now: Callable[[], datetime] | None = None) -> None:
        self.settings = settings
        self._now = now
        self._spoke: list[bool] = []
        self._sent: deque[float] = deque()
        self._last: float | None = None
        self._said: dict[str, float] = {}

    def observe(self, spoke: bool) -> None:
        """Note whether the model spoke at this timestep; before :meth:`review`. Only debounce needs it."""
        self._spoke = [*self._spoke, spoke][-self.settings.debounce[1] :]

    def review(self, time_s: float, text: str) -> str | None:
        """None when the response may go out, else the reason it may not: one of this module's constants."""
        words = normalise(text)
        if not words:
            return EMPTY
        if self._is_quiet():
            return QUIET_HOURS
        needed = self.settings.debounce[0]
        if needed > 1 and sum(self._spoke) < needed:
            return DEBOUNCE
        said = self._said.get(words)
        if said is not None and time_s - said < self.settings.repeat_s:
            return REPEAT
        if self._last is not None and time_s - self._last < self.settings.min_gap_s:
            return MIN_GAP
        while self._sent and self._sent[0] <= time_s - _HOUR_S:
            self._sent.popleft()
        if self.settings.budget_per_hour is not None and len(self._sent) >= self.settings.budget_per_hour:
            return BUDGET
        return None

    def delivered(self, time_s: float, text: str) -> None:
        """Note that a response went out at ``time_s`` of the stream."""
        self._last = time_s
        self._sent.append(time_s)  # also without a budget: one may be set while the stream runs
        oldest = time_s - self.settings.repeat_s
        self._said = {words: said for words, said in self._said.items() if said > oldest}
        self._said[normalise(text)] = time_s

    def _is_quiet(self) -> bool:
        if self.settings.quiet_hours is None or self._now is None:
            return False
        start, end = self.settings.quiet_hours
        moment = self._now().time()
        return start <= moment < end if start <= end else moment >= start or moment < end


def parse_quiet_hours(text: str) -> tuple[time, time]:
    """``22:00-06:30`` as two times of day. Raises ValueError."""
    match = re.fullmatch(r"(\d\d:\d\d) *- *(\d\d:\d\d)", text.strip())
    try:
        start, end = (time.fromisoformat(part) for part in match.groups()) if match else (None, None)
    except ValueError:
        start = end = None
    if start is None or end is None or start == end:
        raise ValueError(f"expected two times of day such as 22:00-06:30, got {text!r}")
    return start, end


def normalise(text: str) -> str:
    """The words of a text alone: case, punctuation at the ends of words and spacing do not count."""
    words = (word.strip(".,;:!?\"'()[]") for word in text.casefold().split())
    return " ".join(word for word in words if word)
