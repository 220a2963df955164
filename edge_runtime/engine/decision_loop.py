"""One camera to the sessions that watch it: frames in, decisions, policy, events out.

A frame's visual tokens are computed once and given to one session per question, so that each response names
its question with certainty. One :class:`~edge_runtime.engine.model.Model` serves any number of runners,
which take
turns (:mod:`edge_runtime.app.run.scheduler`). Live sources are watched with their newest frame, files with
every frame a timestep needs; the camera sees to both.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.config.schema import QueryConfig
from edge_runtime.engine.model import Model
from edge_runtime.engine.query import Question, Revision, match, open_question
from edge_runtime.engine.session import Decision
from edge_runtime.errors import EdgeError
from edge_runtime.events.records import Event, EventMaker
from edge_runtime.observability.telemetry import Telemetry
from edge_runtime.sinks import ReaderGoneError, Sinks
from edge_runtime.video.source import Camera, Frame


@dataclass(frozen=True)
class StepView:
    """What a display shows of one question at one timestep."""

    query: str
    decision: Decision
    latency_ms: float
    suppressed: str | None = None
    """Why the response was held back."""


class Display(Protocol):
    """Shows a run to people; see :mod:`edge_runtime.observability.console`."""

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


class Runner:
    """Watches one camera until it ends, ``duration_s`` is over or :meth:`stop` is called.

    ``begin``, then ``turn`` until ``over``, then ``finish``, whatever happened:
    :mod:`edge_runtime.app.run.scheduler`
    does so. ``duration_s`` counts seconds of the stream for a file and seconds on the clock for a live
    source. Raises EdgeError when a question cannot be asked: before any camera is opened.
    """

    def __init__(
        self,
        model: Model,
        queries: Sequence[QueryConfig],
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
        self.over = False
        """No turn may follow."""
        self.error: Exception | None = None
        """What ended it, if it did not end well."""
        self.model = model
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
        self._wall_s = 0.0
        self._numbered = len(queries)
        self._camera: Camera
        self._questions = [
            open_question(model, f"q{number}", ask, live=events.live)
            for number, ask in enumerate(queries, start=1)
        ]

    def stop(self, cause: str) -> None:
        """Ask the run to end after the timestep in hand. May be called from a signal handler."""
        self._ended = self._ended or cause
        self._stopping = True  # no lock: a signal handler may run anywhere

    def begin(self, camera: Camera) -> None:
        """Watch this camera from now on, once; the caller closes it."""
        self._camera = camera
        self._started = self._clock()
        self._next_stats = self._started + self._stats_every_s

    def turn(self, timeout_s: float) -> bool:
        """Do what is next, one timestep at most; False when nothing came within ``timeout_s``.

        Raises EdgeError when source or engine fail, ReaderGoneError when nobody reads the events any more.
        """
        camera = self._camera
        self.telemetry.last_turn = self._clock()
        item = None
        if self._is_over(camera.live):
            self.over = True
            return True
        try:
            item = camera.read(timeout_s)
        except StopIteration:
            self._ended = self._ended or "the source ended"
            self.over = True
            return True
        if item is None:
            pass
        elif not hasattr(item, "image"):
            self._change_state(item.state, item.cause)
        elif not camera.live and self._is_beyond_duration(item.index):
            self.over = True
        else:
            self._step(item, camera.live)
        if camera.live and self._clock() >= self._next_stats:
            self._next_stats = self._clock() + self._stats_every_s
            self._emit_stats()
        return item is not None

    def finish(self, error: Exception | None = None) -> None:
        """Say how it ended, last statistics included, and free the sessions. Once, after the last turn."""
        self.over, self.error = True, error
        self._wall_s = self._clock() - self._started
        # A reader that leaves only now changes nothing any more.
        with suppress(ReaderGoneError):
            if self._state not in ("ended", "failed"):
                if error is not None:
                    self._change_state("failed", " ".join(str(error).split()))
                elif self._stopping:
                    self._change_state("ended", self._ended)
            if error is None:
                self._emit_never_asked()
        with suppress(ReaderGoneError):
            self._emit_stats()
        for question in self._questions:
            question.session.close()
        self.telemetry.ended = "well" if error is None else "failed"

    def report(self) -> RunReport:
        """What the run came to, after :meth:`finish`."""
        camera = self._camera
        return RunReport(
            stream=self._events.stream,
            source=camera.description,
            decoder=camera.decoder,
            bundle=f"{self.model.bundle.name} {self.model.bundle.precision}",
            engine=self.model.backend,
            live=camera.live,
            stream_s=self._now_s,
            wall_s=self._wall_s,
            dropped=camera.dropped,
            reconnects=camera.reconnects,
            telemetry=self.telemetry,
            never_asked=tuple(question.id for question in self._questions if not question.asked),
            ended=self._ended,
        )

    def prepare(self, queries: Sequence[QueryConfig]) -> Revision:
        """Make ready to watch for ``asks`` instead. Nothing changes until :meth:`revise`; EdgeError if one of
        them cannot be asked.
        """
        found, removed = match(self._questions, queries)
        added: list[Question] = []
        questions: list[Question] = []
        try:
            for ask, question in zip(queries, found, strict=True):
                if question is None:
                    name = f"q{self._numbered + len(added) + 1}"
                    due = max(ask.at, self._now_s)
                    question = open_question(self.model, name, ask, live=self._events.live, due=due)
                    added.append(question)
                questions.append(question)
        except EdgeError:
            for question in added:
                question.session.close()
            raise
        return Revision(tuple(questions), tuple(queries), tuple(added), tuple(removed))

    def revise(self, revision: Revision) -> list[str]:
        """Take over, between two turns: in force from the next timestep. What changed, in words."""
        changes = []
        for question in revision.removed:
            if question.asked:
                self._emit(self._events.query("removed", question.id, question.ask.text, self._now_s))
            question.session.close()
            changes.append(f"{question.id} removed")
        for question, ask in zip(revision.questions, revision.queries, strict=True):
            if question in revision.added:
                changes.append(f"{question.id} added")
            elif question.ask != ask:
                question.adopt(ask, self.model)
                changes.append(f"{question.id} changed")
                if question.asked:
                    self._emit(self._events.query("changed", question.id, ask.text, self._now_s))
        self._numbered += len(revision.added)
        self._questions = list(revision.questions)
        return changes

    def _is_over(self, live: bool) -> bool:
        if live and self._duration_s is not None and self._clock() - self._started >= self._duration_s:
            self.stop(f"{self._duration_s:g} s are over")
        return self._stopping

    def _is_beyond_duration(self, index: int) -> bool:
        """A file's end by ``duration_s`` depends on its own time alone, so that events stay the same."""
        if self._duration_s is None or self.model.stream_format.interval(index)[1] <= self._duration_s:
            return False
        self.stop(f"{self._duration_s:g} s are over")
        return True

    def _step(self, frame: Frame, live: bool) -> None:
        """One timestep for every question."""
        taken = self._clock()
        start = frame.captured_at if live else taken
        self.telemetry.skipped += frame.index - self._next_index
        self._next_index = frame.index + 1
        self._now_s = self.model.stream_format.interval(frame.index)[1]
        self._ask_what_is_due()
        if live:
            self.telemetry.add_stage("queue", (taken - start) * 1e3)

        pixels = self._vision.preprocess(frame.image)
        preprocessed = self._clock()
        tokens = self._vision.encode(pixels)
        encoded = self._clock()
        self.telemetry.add_stage("preprocess", (preprocessed - taken) * 1e3)
        self.telemetry.add_stage("vision", (encoded - preprocessed) * 1e3)

        views = [self._decide(question, tokens, frame.index, start) for question in self._questions]
        self.telemetry.timesteps += 1
        self.telemetry.last_frame = self._clock()
        self._display.step(self._now_s, views)

    def _decide(self, question: Question, tokens: NDArray[np.float32], index: int, start: float) -> StepView:
        """One question's decision, and its response sent out when the policy lets it."""
        before_ms = (self._clock() - start) * 1e3
        decision = question.session.push_tokens(tokens, index)
        # The session counts from its push; latencies count from the frame.
        latency: dict[str, float] = {
            name: before_ms + decision.timing[name]
            for name in ("decision", "first_token", "total")
            if name in decision.timing
        }
        self.telemetry.add_stage("append", decision.timing["append"])
        if question.asked:
            self.telemetry.decision.add(latency["decision"])
        suppressed = None
        question.policy.observe(decision.speak)
        if decision.speak:
            self.telemetry.first_text.add(latency["first_token"])
            suppressed = self._respond(question, decision, latency)
        return StepView(question.id, decision, latency["decision"], suppressed)

    def _respond(self, question: Question, decision: Decision, latency: dict[str, float]) -> str | None:
        """Send a response out; the reason when the policy holds it back."""
        text = decision.text or ""
        reason = question.policy.review(decision.time, text)
        if reason is not None:
            self.telemetry.suppress(reason)
            return reason
        event = self._events.response(
            question.id, question.ask.text, decision.time, decision.interval, text, decision.score, latency
        )
        self.telemetry.responses += 1
        if self._emit(event):
            question.policy.delivered(decision.time, text)
        return None

    def _ask_what_is_due(self) -> None:
        """Put the questions whose time lies at or before the end of this timestep: in force from it."""
        for question in self._questions:
            if not question.asked and question.due <= self._now_s:
                question.session.ask(question.ask.text, id=question.id)
                question.asked = True
                self._emit(self._events.query("asked", question.id, question.ask.text, question.due))

    def _emit_never_asked(self) -> None:
        for question in self._questions:
            if not question.asked:
                self._emit(self._events.query("never_asked", question.id, question.ask.text, question.due))

    def _change_state(self, state: str, cause: str) -> None:
        self._state = state
        self._emit(self._events.state(state, cause, self._now_s))
        self._display.state(state, cause)

    def _emit_stats(self) -> None:
        told = self.telemetry
        counts: dict[str, Any] = {
            "timesteps": told.timesteps,
            "skipped": told.skipped,
            "responses": told.responses,
            "suppressed": dict(sorted(told.suppressed.items())),
        }
        timing: dict[str, Any] = {
            "dropped": self._camera.dropped,
            "reconnects": self._camera.reconnects,
            "decision_ms": told.decision.summary(),
            "first_text_ms": told.first_text.summary(),
            "sinks": self._sinks.counts(),
        }
        self._emit(self._events.stats(self._now_s, counts, timing))

    def _emit(self, event: Event) -> bool:
        self._display.clear()
        return self._sinks.write(event)


def with_fps(model: Model, fps: float) -> Model:
    """The same loaded model, deciding ``fps`` times per second of stream instead of as it was trained to."""
    if fps == model.stream_format.fps:
        return model
    changed = copy.copy(model)
    changed.stream_format = replace(model.stream_format, fps=fps)
    changed.encoder = TurnEncoder(changed.stream_format, model.tokenizer.encode)
    return changed
