"""One camera to its events: frames in, the decision loop, events out.

One :class:`~edge_runtime.engine.stream_model.StreamModel` serves any number of runners, which the scheduler
(:mod:`edge_runtime.app.run.scheduler`) steps in turn. Live sources are watched with their newest frame, files
with every frame a timestep needs; the camera sees to both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_runtime.engine.decision_loop import DecisionLoop, Step
from edge_runtime.engine.query import Query, Revision
from edge_runtime.engine.still_scene import StillScene
from edge_runtime.engine.stream_model import StreamModel
from edge_runtime.engine.timestep import Timestep
from edge_runtime.events.evidence import CameraEvidence
from edge_runtime.events.policy import UNATTRIBUTED
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event, EventMaker, Response
from edge_runtime.observability.telemetry import Telemetry
from edge_runtime.sinks import ReaderGoneError, Sinks
from edge_runtime.video.source import Camera, Frame

_log = logging.getLogger(__name__)


class Display(Protocol):
    """Shows a run to people; see :mod:`edge_runtime.observability.console`."""

    def state(self, state: str, cause: str) -> None: ...

    def step(self, time_s: float, steps: Sequence[Step]) -> None: ...

    def clear(self) -> None:
        """Make way for a line on stdout."""
        ...


Observer = Callable[[Frame, float, Sequence[Step]], None]
"""Told of each timestep in the thread that runs the model: the frame, the end of its interval in seconds of
the stream, and a step for each query that was decided on. It must not block.
"""


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
    requests: dict[str, int] = field(default_factory=dict)
    """What the server of an endpoint was asked, for all cameras together; empty for a bundle."""
    never_asked: tuple[str, ...] = ()
    """Queries whose time had not come when the stream ended."""
    ended: str = ""
    """Why the run ended, in words."""


class Runner:
    """Watches one camera until it ends, ``duration_s`` is over or :meth:`stop` is called.

    ``begin``, then ``step`` until ``over``, then ``finish``, whatever happened:
    :mod:`edge_runtime.app.run.scheduler` does so. ``duration_s`` counts seconds of the stream for a file and
    seconds on the clock for a live source. ``still_skip_s``: a still scene is decided on after so many
    seconds at the latest; 0 decides at every timestep. Raises EdgeError when a query cannot be asked: before
    any camera is opened.
    """

    def __init__(
        self,
        model: StreamModel,
        queries: Sequence[QueryConfig],
        events: EventMaker,
        sinks: Sinks,
        display: Display,
        *,
        duration_s: float | None = None,
        stats_every_s: float = 60.0,
        still_skip_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = events.stream
        self.telemetry = Telemetry()
        self.over = False
        """No step may follow."""
        self.error: Exception | None = None
        """What ended it, if it did not end well."""
        self.state = ""
        """What the camera does: connecting, live, stalled, ended, failed, ...; empty before it begins."""
        self.cause = ""
        """Why, in words."""
        self.observer: Observer | None = None
        self.model = model
        self._vision = model.open_vision()
        self._events = events
        self._sinks = sinks
        self._display = display
        self._duration_s = duration_s
        self._stats_every_s = stats_every_s
        self._clock = clock
        self._still = StillScene(still_skip_s) if still_skip_s else None
        self._stopping = False
        self._ended = ""
        self._now_s = 0.0
        self._next_index = 0
        self._started = self._next_stats = 0.0
        self._wall_s = 0.0
        self._camera: Camera
        self._evidence: CameraEvidence | None = None
        self._moments: dict[float, Any] = {}
        """What evidence is made from, of the timesteps that are not decided yet, by their end."""
        self._frame: Frame | None = None
        """Of the timestep in hand."""
        self.timestep: Timestep | None = None
        """That is not decided on yet; None without any, and when nothing is watched for."""
        self._left_out = False
        """The timestep in hand shows a still scene that is decided already."""
        self._late: list[Step] = []
        """Shown with the next timestep."""
        self._outage = ""
        self.loop = DecisionLoop(model, queries, events.ids, self._deliver, clock=clock)

    def stop(self, cause: str) -> None:
        """Ask the run to end after the timestep in hand. May be called from a signal handler."""
        self._ended = self._ended or cause
        self._stopping = True  # no lock: a signal handler may run anywhere

    def begin(self, camera: Camera, evidence: CameraEvidence | None = None) -> None:
        """Watch this camera from now on, once; the caller closes it. ``evidence`` is kept of responses."""
        self._camera = camera
        self._evidence = evidence
        self._started = self._clock()
        self._next_stats = self._started + self._stats_every_s

    def step(self, timeout_s: float) -> bool:
        """Do what is next, one timestep at most; False when nothing came within ``timeout_s``.

        Raises EdgeError when source or engine fail, ReaderGoneError when nobody reads the events any more.
        """
        came = self.look(timeout_s)
        self.conclude()
        return came

    def look(self, timeout_s: float) -> bool:
        """The first half of :meth:`step`: whatever came but the decisions; :attr:`timestep` is to be decided
        on. :meth:`conclude` it before the next one.
        """
        camera = self._camera
        self.telemetry.last_step = self._clock()
        item = None
        if self._is_over(camera.live):
            self.over = True
            return True
        self._take_late()
        if not camera.live and self.loop.undecided:
            return False  # a recording waits for every decision; what brings one wakes the scheduler
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
            self._watch(item, camera.live)
        return item is not None

    def conclude(self) -> None:
        """The second half: decide, count, show, tell the observer."""
        if self._frame is not None:
            frame, self._frame = self._frame, None
            self._react(frame)
        if self._camera.live and not self.over and self._clock() >= self._next_stats:
            self._next_stats = self._clock() + self._stats_every_s
            self._emit_stats()

    def finish(self, error: Exception | None = None) -> None:
        """Emit how it ended, last statistics included, and free the sessions. Once, after the last step."""
        self.over, self.error = True, error
        self._wall_s = self._clock() - self._started
        # A reader that leaves only now changes nothing any more.
        with suppress(ReaderGoneError):
            if self.state not in ("ended", "failed"):
                if error is not None:
                    self._change_state("failed", " ".join(str(error).split()))
                elif self._stopping:
                    self._change_state("ended", self._ended)
            if error is None:
                self._emit_never_asked()
        with suppress(ReaderGoneError):
            self._emit_stats()
        self.loop.close()
        self.telemetry.ended = "well" if error is None else "failed"

    def report(self) -> RunReport:
        """What the run came to, after :meth:`finish`."""
        camera = self._camera
        return RunReport(
            stream=self._events.stream,
            source=camera.description,
            decoder=camera.decoder,
            bundle=self.model.title,
            engine=self.model.backend,
            live=camera.live,
            stream_s=self._now_s,
            wall_s=self._wall_s,
            dropped=camera.dropped,
            reconnects=camera.reconnects,
            telemetry=self.telemetry,
            requests=self.model.counts(),
            never_asked=tuple(query.id for query in self.loop.queries if not query.asked),
            ended=self._ended,
        )

    def prepare(self, wanted: Sequence[tuple[Query | None, QueryConfig]]) -> Revision:
        """Make ready to watch for these configurations instead, each with the query that it is of; None for a
        new one. Nothing changes until :meth:`revise`; EdgeError if one of them cannot be asked.
        """
        return self.loop.prepare(wanted, self._now_s)

    def revise(self, revision: Revision) -> list[str]:
        """Take over, between two timesteps: in force from the next one. What changed, in words."""
        changes = self.loop.revise(revision)
        if self._still is not None:
            self._still.restart()
        for action, query in changes:
            if query.asked:  # so it is not new
                self._emit_query(action, query, self._now_s)
        return [f"{query.id} {action}" for action, query in changes]

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

    def _watch(self, frame: Frame, live: bool) -> None:
        """Begin a timestep for every query."""
        taken = self._clock()
        start = frame.captured_at if live else taken
        telemetry = self.telemetry
        telemetry.skipped += frame.index - self._next_index
        self._next_index = frame.index + 1
        self._now_s = self.model.stream_format.interval(frame.index)[1]
        self._ask_due()
        if live:
            telemetry.add_stage("queue", (taken - start) * 1e3)

        self._frame, self.timestep = frame, None
        self._left_out = self._still is not None and self._still.leaves_out(frame.image, self._now_s)
        if not self._left_out:
            if self._evidence is not None:
                self._moments[self._now_s] = frame.moment
            self.timestep = self._see(frame, taken, start)

    def _react(self, frame: Frame) -> None:
        """End the timestep of this frame."""
        telemetry, timestep = self.telemetry, self.timestep
        self.timestep = None
        steps: list[Step] = [] if timestep is None else self.loop.finish(timestep)
        if self._left_out:
            telemetry.still += 1
        else:
            self._count(steps)
            self._forget_moments()
            if self._still is not None:
                self._still.decided([step.decision for step in steps], self._now_s)
            telemetry.timesteps += 1
        telemetry.last_frame = self._clock()
        steps, self._late = [*self._late, *steps], []
        self._display.step(self._now_s, steps)
        if self.observer is not None:
            self.observer(frame, self._now_s, steps)

    def _ask_due(self) -> None:
        for query in self.loop.ask_due(self._now_s):
            if query.unknown_words:
                _log.warning("%s: %s %s", self.stream, query.id, query.not_trained())
            self._emit_query("not_trained" if query.unknown_words else "asked", query, query.due)
            if self._still is not None:
                self._still.restart()

    def _take_late(self) -> None:
        """Decisions of a model that decides later, and whether it can decide at all."""
        outage = self.model.outage
        if bool(outage) != bool(self._outage):
            self._emit(self._events.model(self.model.name, outage, self._now_s))
        self._outage = outage
        steps = self.loop.late()
        if steps:
            self._count(steps)
            self._forget_moments()
            self._late += steps
            if self._still is not None and any(step.decision.speak for step in steps):
                self._still.restart()

    def _count(self, steps: Sequence[Step]) -> None:
        asked = {query.id for query in self.loop.queries if query.asked}
        telemetry = self.telemetry
        for step in steps:
            if step.leads and step.decision.decided:  # the others' decision is the same one
                for stage in ("append", "request"):
                    if stage in step.decision.timing:
                        telemetry.add_stage(stage, step.decision.timing[stage])
                for _ in step.decision.unattributed:
                    telemetry.suppress(UNATTRIBUTED)
                if step.query in asked:
                    telemetry.decision.add(step.latency_ms["decision"])
            if step.decision.speak:
                telemetry.first_text.add(step.latency_ms["first_token"])
            if step.suppressed is not None:
                telemetry.suppress(step.suppressed)

    def _forget_moments(self) -> None:
        """What evidence is made from is held no longer than needed."""
        undecided = self.loop.undecided
        self._moments = {end: moment for end, moment in self._moments.items() if end in undecided}

    def _see(self, frame: Frame, taken: float, start: float) -> Timestep | None:
        """What is to be decided for the queries that are not paused; without any, vision does not run."""
        if not self.loop.watched:
            self._vision.reset()  # the frame before the next one will be long ago
            return None
        tokens = None if self._still is None else self._still.tokens()
        if tokens is None:
            pixels = self._vision.preprocess(frame.image)
            preprocessed = self._clock()
            tokens = self._vision.encode(pixels)
            self.telemetry.add_stage("preprocess", (preprocessed - taken) * 1e3)
            self.telemetry.add_stage("vision", (self._clock() - preprocessed) * 1e3)
            if self._still is not None:
                self._still.encoded(tokens)
        return self.loop.begin(tokens, frame.index, start)

    def _deliver(self, response: Response) -> bool:
        event = self._events.response(response)
        if response.delegation:
            return self._emit(event)
        self.telemetry.responses += 1
        if self._evidence is not None:
            event |= self._evidence.keep(response.id, self._moments.get(response.time))
        return self._emit(event)

    def _emit_never_asked(self) -> None:
        for query in self.loop.queries:
            if not query.asked:
                self._emit_query("never_asked", query, query.due)

    def _emit_query(self, action: str, query: Query, time_s: float) -> None:
        self._emit(self._events.query(action, query.id, query.config.text, time_s))

    def _change_state(self, state: str, cause: str) -> None:
        self.state, self.cause = state, cause
        self._emit(self._events.state(state, cause, self._now_s))
        self._display.state(state, cause)

    def _emit_stats(self) -> None:
        timing = {
            "dropped": self._camera.dropped,
            "reconnects": self._camera.reconnects,
            **self.telemetry.latencies(),
            **({"endpoint": requests} if (requests := self.model.counts()) else {}),
            "sinks": self._sinks.counts(),
        }
        self._emit(self._events.stats(self._now_s, self.telemetry.counts(), timing))

    def _emit(self, event: Event) -> bool:
        self._display.clear()
        return self._sinks.write(event)
