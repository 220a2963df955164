"""When to connect, to wait, to report and to give up: a state machine without threads, sockets or GStreamer.

Events come in (``start``, ``first_frame``, ``lost``, ``tick``) and actions go out, which
:mod:`pipelines.camera` carries out. Time comes from an injected clock, so tests live through a day at once.

``connecting -> live -> stalled -> live ...``; ``auth-failed`` when credentials are refused; ``failed`` when
it gives up: because retrying cannot help (no decoder is installed) or because of ``give_up_s``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipelines.sources.errors import Problem


@dataclass(frozen=True)
class RetryPolicy:
    """All times in seconds."""

    give_up_s: float | None = None
    """Without a frame for so long, retrying ends; 0: at the first failure; None: never."""
    connect_timeout_s: float = 10.0
    """From the start of a connection to its first decoded frame."""
    stall_timeout_s: float = 5.0
    """Without a frame for so long, a live source is stalled and gets replaced."""
    retry_first_s: float = 0.25
    retry_limit_s: float = 15.0
    retry_limit_unreachable_s: float = 1.0
    """The longest wait while nothing answers: one packet is no burden, and who comes back is soon seen."""
    retry_factor: float = 2.0
    retry_jitter: float = 0.2
    """Each wait is drawn from ``[1 - jitter, 1 + jitter]`` times its nominal length."""
    auth_retry_s: float = 60.0
    """Between attempts with refused credentials: cameras lock accounts."""
    stable_s: float = 10.0
    """A connection this old counts as good: the next wait starts short again."""
    repeat_s: float = 60.0
    """That nothing answers, for the same cause, is reported again after so long: a night is not a flood."""


@dataclass(frozen=True)
class Connect:
    """Open the source."""


@dataclass(frozen=True)
class Disconnect:
    """Tear down whatever is open."""


@dataclass(frozen=True)
class Report:
    """Report to the consumer."""

    state: str
    cause: str


@dataclass(frozen=True)
class GiveUp:
    """End the iteration with ``problem`` as the error."""

    problem: Problem


Action = Connect | Disconnect | Report | GiveUp


class Supervisor:
    """One source's life. Not thread-safe: the caller serialises calls (frame_seen may race, by design)."""

    def __init__(
        self, policy: RetryPolicy, *, clock: Callable[[], float], draw: Callable[[], float] = random.random
    ) -> None:
        """``clock``: monotonic seconds. ``draw``: uniform in [0, 1), for the jitter."""
        self.policy = policy
        self._clock = clock
        self._draw = draw
        self.phase: Literal["idle", "connecting", "live", "waiting", "over"] = "idle"
        self._started = clock()
        self.was_live = False
        self.reconnects = 0
        self._failures = 0
        self._deadline = 0.0
        self._live_since = 0.0
        self._last_frame = 0.0
        self._reported: tuple[str, float] | None = None
        """The last cause of a failed attempt, and when it was reported; None once there is a frame."""

    def start(self) -> list[Action]:
        self._started = self._clock()
        return [Report("connecting", ""), *self._connect()]

    def server_answered(self) -> None:
        """The server answered; the time until the first frame counts from here."""
        if self.phase == "connecting":
            self._deadline = self._clock() + self.policy.connect_timeout_s

    def first_frame(self, detail: str) -> list[Action]:
        """The connection delivers. ``detail`` says what: codec, size, decoder."""
        if self.phase != "connecting":
            return []
        self.reconnects += self.was_live
        self.phase, self.was_live, self._reported = "live", True, None
        self._live_since = self._last_frame = self._clock()
        return [Report("live", detail)]

    def frame_seen(self) -> None:
        """Any decoded frame, selected or not, feeds the watchdog."""
        self._last_frame = self._clock()

    def tick(self) -> list[Action]:
        """To be called every 100 ms or so."""
        now, policy = self._clock(), self.policy
        if self.phase == "connecting" and now >= self._deadline:
            return self.lost(
                Problem(
                    f"no frame within {policy.connect_timeout_s:g} s",
                    "check that the camera is sending, or raise the connect timeout",
                )
            )
        if self.phase == "live" and now - self._last_frame >= policy.stall_timeout_s:
            return self.lost(Problem(f"no frame for {policy.stall_timeout_s:g} s", "check the camera"))
        if self.phase == "waiting" and now >= self._deadline:
            return self._connect()
        return []

    def lost(self, problem: Problem) -> list[Action]:
        """The connection failed, broke or ended."""
        if self.phase not in ("connecting", "live"):
            return []
        policy, was = self.policy, self.phase
        auth = problem.kind == "auth"
        if was == "live" and self._clock() - self._live_since >= policy.stable_s:
            self._failures = 0
        self._failures += 1
        left = self._time_left()
        if left <= 0 or problem.kind == "permanent":
            self.phase = "over"
            reports = [Report("auth-failed", problem.cause)] if auth else []
            return [Disconnect(), *reports, Report("failed", problem.cause), GiveUp(problem)]
        wait = min(left, policy.auth_retry_s if auth else self._backoff(problem))
        self.phase, self._deadline = "waiting", self._clock() + wait
        state = "auth-failed" if auth else "stalled" if was == "live" else "connecting"
        if problem.unreachable and self._reported_lately(problem.cause):
            return [Disconnect()]
        self._reported = problem.cause, self._clock()
        return [Disconnect(), Report(state, f"{problem.cause}; retrying in {wait:.1f} s")]

    def _reported_lately(self, cause: str) -> bool:
        return (
            self._reported is not None
            and self._reported[0] == cause
            and self._clock() - self._reported[1] < self.policy.repeat_s
        )

    def _time_left(self) -> float:
        """Seconds until it gives up."""
        if self.policy.give_up_s is None:
            return math.inf
        last_good = self._last_frame if self.was_live else self._started
        return self.policy.give_up_s - (self._clock() - last_good)

    def _connect(self) -> list[Action]:
        self.phase, self._deadline = "connecting", self._clock() + self.policy.connect_timeout_s
        return [Connect()]

    def _backoff(self, problem: Problem) -> float:
        policy = self.policy
        limit = policy.retry_limit_s
        if problem.unreachable:
            limit = min(limit, policy.retry_limit_unreachable_s)
        nominal = min(limit, policy.retry_first_s * policy.retry_factor ** min(self._failures - 1, 30))
        return nominal * (1 + policy.retry_jitter * (2 * self._draw() - 1))
