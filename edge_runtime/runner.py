"""One camera to the sessions that watch it: frames in, decisions, policy, events out.

A frame's visual tokens are computed once and given to one session per question, so that each response names
its question with certainty. One :class:`~edge_runtime.model.Model` serves any number of runners. Live sources
are watched with their newest frame, files with every frame a timestep needs; the camera sees to both.
"""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config import Ask
from edge_runtime.events import Event, EventMaker
from edge_runtime.model import Model
from edge_runtime.policy import ResponsePolicy
from edge_runtime.protocol import TurnEncoder
from edge_runtime.session import Decision, StreamSession
from edge_runtime.sinks import ReaderGoneError, Sinks
from edge_runtime.telemetry import Telemetry

_POLL_S = 0.2
"""How long to wait for a frame before looking at the clock: Ctrl-C, --duration and stats are due then."""


class Picture(Protocol):
    """A frame as the camera gives it; see ``pipelines.mailbox.Frame``."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB."""
        ...

    @property
    def captured_at(self) -> float:
        """``time.monotonic()`` of its capture."""
        ...

    @property
    def index(self) -> int:
        """The timestep it closes."""
        ...


class Camera(Protocol):
    """What the runner needs of ``pipelines.camera.Camera``."""

    @property
    def live(self) -> bool: ...

    @property
    def description(self) -> str: ...

    @property
    def decoder(self) -> str:
        """Empty until the first picture came."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were looked at."""
        ...

    @property
    def reconnects(self) -> int: ...

    def read(self, timeout_s: float) -> Any:
        """A Picture, a state change (``state``, ``cause``) or None. StopIteration or SourceError ends it."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class StepView:
    """What a display shows of one question at one timestep."""

    query: str
    decision: Decision
    latency_ms: float
    suppressed: str | None = None
    """Why the response was held back."""


class Display(Protocol):
    """Shows a run to people; see :mod:`edge_runtime.display`."""

    def state(self, state: str, cause: str) -> None: ...

    def step(self, time_s: float, views: Sequence[StepView]) -> None: ...

    def clear(self) -> None:
        """Make way for a line on stdout."""
        ...


@dataclass(frozen=True)
class RunReport:
    """What a run came to, for its summary."""

    stream: str
    source: str
    decoder: str
    bundle: str
    engine: str
    live: bool
    stream_s: float
    """Seconds of stream that were watched."""
    wall_s: float
    dropped: int
    reconnects: int
    telemetry: Telemetry
    never_asked: tuple[str, ...] = ()
    """Questions whose time had not come when the stream ended."""
    ended: str = ""
    """Why the run ended, in words."""


@dataclass
class _Watcher:
    """One question, its session and its policy."""

    query: str
    ask: Ask
    session: StreamSession
    policy: ResponsePolicy
    asked: bool = field(default=False)


class Runner:
    """Watches one camera until it ends, ``duration_s`` is over or :meth:`stop` is called.

    ``duration_s`` counts seconds of the stream for a file and seconds on the clock for a live source.
    Raises EdgeError when a question cannot be asked: before any camera is opened.
    """

    def __init__(
        self,
        model: Model,
        asks: Sequence[Ask],
        events: EventMaker,
        sinks: Sinks,
        display: Display,
        *,
        duration_s: float | None = None,
        stats_every_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = events.stream
        self.telemetry = Telemetry()
        self._model = model
        self._vision = model.open_vision()
        self._events = events
        self._sinks = sinks
        self._display = display
        self._duration_s = duration_s
        self._stats_every_s = stats_every_s
        self._clock = clock
        self._stopping = False
        self._ended = ""
        self._state = ""
        self._now_s = 0.0
        self._next_index = 0
        self._started = self._next_stats = 0.0
        self._watchers = [
            _open_watcher(model, f"q{number}", ask, events.live) for number, ask in enumerate(asks, start=1)
        ]

    def stop(self, cause: str) -> None:
        """Ask the run to end after the timestep in hand. May be called from a signal handler."""
        self._ended = self._ended or cause
        self._stopping = True  # no lock: a signal handler may run anywhere

    def run(self, camera: Camera) -> RunReport:
        """Run to the end, once. Raises EdgeError when source or engine fail; :meth:`report` works then, too.

        Events, the last statistics included, are written in any case; the caller closes camera and sinks.
        """
        self._started = self._clock()
        self._next_stats = self._started + self._stats_every_s
        try:
            self._watch(camera)
        except ReaderGoneError:
            self.stop("whoever read the events has gone")
            raise
        finally:
            self._finish(camera)
        return self.report(camera)

    def report(self, camera: Camera) -> RunReport:
        """What the run has come to so far."""
        return RunReport(
            stream=self._events.stream,
            source=camera.description,
            decoder=camera.decoder,
            bundle=f"{self._model.bundle.name} {self._model.bundle.precision}",
            engine=self._model.backend,
            live=camera.live,
            stream_s=self._now_s,
            wall_s=self._clock() - self._started,
            dropped=camera.dropped,
            reconnects=camera.reconnects,
            telemetry=self.telemetry,
            never_asked=tuple(w.query for w in self._watchers if not w.asked),
            ended=self._ended,
        )

    def _watch(self, camera: Camera) -> None:
        while not self._over(camera.live):
            self.telemetry.last_turn = self._clock()
            try:
                item = camera.read(_POLL_S)
            except StopIteration:
                self._ended = self._ended or "the source ended"
                return
            if item is None:
                pass
            elif hasattr(item, "image"):
                if not camera.live and self._beyond_duration(item.index):
                    return
                self._step(item, camera.live)
            else:
                self._change_state(item.state, item.cause)
            if camera.live and self._clock() >= self._next_stats:
                self._next_stats = self._clock() + self._stats_every_s
                self._emit_stats(camera)

    def _over(self, live: bool) -> bool:
        if live and self._duration_s is not None and self._clock() - self._started >= self._duration_s:
            self.stop(f"{self._duration_s:g} s are over")
        return self._stopping

    def _beyond_duration(self, index: int) -> bool:
        """A file's end by ``duration_s`` depends on its own time alone, so that events stay the same."""
        if self._duration_s is None or self._model.protocol.interval(index)[1] <= self._duration_s:
            return False
        self.stop(f"{self._duration_s:g} s are over")
        return True

    def _step(self, frame: Picture, live: bool) -> None:
        """One timestep for every question."""
        taken = self._clock()
        start = frame.captured_at if live else taken
        self.telemetry.skipped += frame.index - self._next_index
        self._next_index = frame.index + 1
        self._now_s = self._model.protocol.interval(frame.index)[1]
        self._ask_what_is_due()
        if live:
            self.telemetry.add_stage("queue", (taken - start) * 1e3)

        pixels = self._vision.preprocess(frame.image)
        preprocessed = self._clock()
        tokens = self._vision.encode(pixels)
        encoded = self._clock()
        self.telemetry.add_stage("preprocess", (preprocessed - taken) * 1e3)
        self.telemetry.add_stage("vision", (encoded - preprocessed) * 1e3)

        views = [self._decide(watcher, tokens, frame.index, start) for watcher in self._watchers]
        self.telemetry.timesteps += 1
        self.telemetry.last_frame = self._clock()
        self._display.step(self._now_s, views)

    def _decide(self, watcher: _Watcher, tokens: NDArray[np.float32], index: int, start: float) -> StepView:
        """One question's decision, and its response sent out when the policy lets it."""
        before_ms = (self._clock() - start) * 1e3
        decision = watcher.session.push_tokens(tokens, index)
        # The session counts from its push; latencies count from the frame.
        latency: dict[str, float] = {
            name: before_ms + decision.timing[name]
            for name in ("decision", "first_token", "total")
            if name in decision.timing
        }
        self.telemetry.add_stage("append", decision.timing["append"])
        if watcher.asked:
            self.telemetry.decision.add(latency["decision"])
        suppressed = None
        watcher.policy.observe(decision.speak)
        if decision.speak:
            self.telemetry.first_text.add(latency["first_token"])
            suppressed = self._respond(watcher, decision, latency)
        return StepView(watcher.query, decision, latency["decision"], suppressed)

    def _respond(self, watcher: _Watcher, decision: Decision, latency: dict[str, float]) -> str | None:
        """Send a response out; the reason when the policy holds it back."""
        text = decision.text or ""
        reason = watcher.policy.review(decision.time, text)
        if reason is not None:
            self.telemetry.suppress(reason)
            return reason
        event = self._events.response(
            watcher.query, watcher.ask.text, decision.time, decision.interval, text, decision.score, latency
        )
        self.telemetry.responses += 1
        if self._emit(event):
            watcher.policy.delivered(decision.time, text)
        return None

    def _ask_what_is_due(self) -> None:
        """Put the questions whose time lies at or before the end of this timestep: in force from it."""
        for watcher in self._watchers:
            if not watcher.asked and watcher.ask.at <= self._now_s:
                watcher.session.ask(watcher.ask.text, id=watcher.query)
                watcher.asked = True
                self._emit(self._events.query("asked", watcher.query, watcher.ask.text, watcher.ask.at))

    def _change_state(self, state: str, cause: str) -> None:
        self._state = state
        self._emit(self._events.state(state, cause, self._now_s))
        self._display.state(state, cause)

    def _finish(self, camera: Camera) -> None:
        # A reader that leaves only now changes nothing any more.
        with suppress(ReaderGoneError):
            if self._stopping and self._state not in ("ended", "failed"):
                self._change_state("ended", self._ended)
        with suppress(ReaderGoneError):
            self._emit_stats(camera)
        for watcher in self._watchers:
            watcher.session.close()

    def _emit_stats(self, camera: Camera) -> None:
        told = self.telemetry
        counts: dict[str, Any] = {
            "timesteps": told.timesteps,
            "skipped": told.skipped,
            "responses": told.responses,
            "suppressed": dict(sorted(told.suppressed.items())),
        }
        timing: dict[str, Any] = {
            "dropped": camera.dropped,
            "reconnects": camera.reconnects,
            "decision_ms": told.decision.summary(),
            "first_text_ms": told.first_text.summary(),
        }
        self._emit(self._events.stats(self._now_s, counts, timing))

    def _emit(self, event: Event) -> bool:
        self._display.clear()
        return self._sinks.write(event)


def _open_watcher(model: Model, query: str, ask: Ask, live: bool) -> _Watcher:
    session = model.session(threshold=ask.policy.threshold)
    session.remove(
        session.ask(ask.text)
    )  # a question that cannot be asked is said now, not when its time comes
    return _Watcher(query, ask, session, ResponsePolicy(ask.policy, datetime.now if live else None))


def with_fps(model: Model, fps: float) -> Model:
    """The same loaded model, deciding ``fps`` times per second of stream instead of as it was trained to."""
    if fps == model.protocol.fps:
        return model
    changed = copy.copy(model)
    changed.protocol = replace(model.protocol, fps=fps)
    changed.encoder = TurnEncoder(changed.protocol, model.tokenizer.encode)
    return changed


@contextmanager
def stop_on_signals(stop: Callable[[str], None]) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM call ``stop`` and are noted in the list; a second one ends the process at once."""
    received: list[int] = []

    def handle(number: int, _frame: Any) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        stop("stopped by Ctrl-C" if number == signal.SIGINT else "stopped by SIGTERM")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            with suppress(ValueError, TypeError):  # a handler not set from Python cannot be put back
                signal.signal(number, handler)
