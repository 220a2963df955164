"""The model behind the `streampro` element: a worker thread that keeps the newest frame.

The streaming thread asks :meth:`InferenceWorker.wants` for each buffer and hands over those a timestep
takes; that is all it ever does. Scaling and the decision loop run in the worker. When the worker is busy,
a newer frame replaces the waiting one, and the replaced timestep is counted as dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.records import Response
from edge_runtime.video.sampling import TimestepSampler
from pipelines.element.scaler import FrameScaler

_NS = 1_000_000_000
_BACKWARDS_NS = _NS // 2
_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class InferenceSettings:
    """What an element is set to."""

    bundle: str = "nano"
    query: str = ""
    threshold: float | None = None
    """None for the bundle's own."""
    fps: float | None = None
    """Timesteps per second; None for the bundle's own."""
    min_gap_s: float = 0.0
    backend: str = "auto"
    threads: int | None = None
    ask_anyway: bool = False


@dataclass(frozen=True)
class ElementResponse:
    """A response, and which part of the stream it is about: time stamps in ns as the buffers carry them."""

    id: str
    pts_start: int
    pts_end: int
    text: str
    score: float


@dataclass
class Counts:
    """What became of the timesteps; read from any thread."""

    taken: int = 0
    """Frames handed to the worker."""
    dropped: int = 0
    """Of those, replaced by a newer one before they were looked at."""
    decided: int = 0
    responses: int = 0
    suppressed: int = 0
    decision_ms: float = 0.0
    """Of the last timestep: from taking the frame to the decision."""


@dataclass(frozen=True, eq=False)
class _Frame:
    buffer: Any
    caps: Any
    index: int
    stream: int
    """Counts flushes: a frame of another stream starts a new session."""
    origin_ns: int
    """Time stamp at which the stream starts."""
    taken_at: float


class InferenceWorker:
    """See the module's text. ``start``, then ``wants``/``offer`` from one thread, ``close`` at the end.

    ``on_response(response)``, ``on_warning(text)`` and ``on_error(exception)`` are called on the worker.
    After an error the worker takes no more frames.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        *,
        on_response: Callable[[ElementResponse], None],
        on_warning: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Load the model. Raises EdgeError for a bundle, query or engine that cannot be used."""
        import edge_runtime
        from edge_runtime.engine.decision_loop import DecisionLoop
        from edge_runtime.events.query_config import QueryConfig
        from edge_runtime.observability.log import lines_to

        if not settings.query.strip():
            raise ConfigError('query: the text is empty; set query="what to watch for"')
        with lines_to(on_warning, "edge_runtime.backends"):
            model = edge_runtime.load(settings.bundle, threads=settings.threads, backend=settings.backend)
        model = model.with_fps(settings.fps or model.stream_format.fps)
        policy = PolicySettings(settings.threshold, settings.min_gap_s)
        query = QueryConfig(settings.query, policy=policy, ask_anyway=settings.ask_anyway)
        self._loop = DecisionLoop(model, [query], EventIds("streampro"), self._deliver)
        (self._query,) = self._loop.ask_due(0.0)
        self._text = settings.query
        self._vision = model.open_vision()
        self._on_response, self._on_warning, self._on_error = on_response, on_warning, on_error
        if self._query.unknown_words:
            on_warning(self._query.not_trained())
        self._sampler = TimestepSampler(model.stream_format.fps)
        self._origin_ns: int | None = None
        self._segment_ns = self._last_ns = 0
        self._stream = self._loop_stream = 0
        self.paused = False
        self.counts = Counts()
        self._waiting: _Frame | None = None
        self._deciding: _Frame | None = None
        self._closing = False
        self._changed = threading.Condition()
        height, width = model.bundle.model.image_size
        self._scaler = FrameScaler((width, height))
        self._thread = threading.Thread(target=self._run, name="streampro", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ------------------------------------------------------------------ any thread

    def set_query(self, text: str) -> None:
        """Ask something else from the next timestep on."""
        self._text = text

    def set_policy(self, threshold: float | None, min_gap_s: float) -> None:
        """Change when responses go out, from the next timestep on."""
        self._query.set_policy(PolicySettings(threshold, min_gap_s))

    # ------------------------------------------------------------------ the streaming thread

    def wants(self, pts_ns: int) -> int | None:
        """The timestep that a buffer stamped ``pts_ns`` closes; None when the buffer is not needed."""
        if self.paused:
            return None
        if self._origin_ns is None:  # a live source may have run for hours before anybody looked
            late = pts_ns - self._segment_ns
            self._origin_ns = self._segment_ns if 0 <= late < _NS else pts_ns
        elif pts_ns < self._last_ns - _BACKWARDS_NS:  # the source started again: go on from where we were
            self._origin_ns += pts_ns - self._last_ns
        self._last_ns = pts_ns
        return self._sampler.take((pts_ns - self._origin_ns) / _NS)

    def offer(self, buffer: Any, caps: Any, index: int) -> None:
        """Hand over the buffer that closes timestep ``index``; the newest wins."""
        assert self._origin_ns is not None
        frame = _Frame(buffer, caps, index, self._stream, self._origin_ns, time.monotonic())
        with self._changed:
            self.counts.taken += 1
            self.counts.dropped += self._waiting is not None
            self._waiting = frame
            self._changed.notify_all()

    def new_segment(self, start_ns: int) -> None:
        """Buffers stamped ``start_ns`` lie at the start of what follows."""
        self._segment_ns = start_ns

    def flush(self) -> None:
        """What comes next is another stream (after a seek): time starts anew."""
        with self._changed:
            self._waiting = None
        self._stream += 1
        self._origin_ns = None
        self._sampler.reset()

    def drain(self, timeout_s: float) -> bool:
        """Wait until the frames handed over have been decided upon; False when that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting is None and self._deciding is None, timeout_s)

    def close(self) -> None:
        """Stop and free everything."""
        with self._changed:
            self._closing, self._waiting = True, None
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S)
        self._scaler.close()
        self._loop.close()

    # ------------------------------------------------------------------ the worker

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                self._decide(frame)
        except Exception as error:
            if not self._closing:
                self._on_error(error)
        finally:
            with self._changed:
                self._waiting = self._deciding = None
                self._changed.notify_all()

    def _next(self) -> _Frame | None:
        with self._changed:
            self._deciding = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting is not None or self._closing)
            self._deciding, self._waiting = self._waiting, None
            return self._deciding

    def _decide(self, frame: _Frame) -> None:
        if frame.stream != self._loop_stream:
            self._loop_stream = frame.stream
            self._loop.reset()
            self._vision.reset()
        self._change_query()
        if not self._loop.watched:
            self.counts.decided += 1
            return
        tokens = self._vision.see(self._scaler.convert(frame.buffer, frame.caps))
        (step,) = self._loop.step(tokens, frame.index, frame.taken_at)
        self.counts.decided += 1
        self.counts.decision_ms = step.latency_ms["decision"]
        self.counts.suppressed += step.suppressed is not None

    def _deliver(self, response: Response) -> bool:
        assert self._deciding is not None
        origin_ns = self._deciding.origin_ns
        start, end = (origin_ns + round(seconds * _NS) for seconds in response.interval)
        self.counts.responses += 1
        self._on_response(ElementResponse(response.id, start, end, response.text, response.score))
        return True

    def _change_query(self) -> None:
        if (text := self._text) == self._query.config.text:
            return
        try:
            self._query.reword(text)
            if self._query.unknown_words:
                self._on_warning(self._query.not_trained())
        except ConfigError as error:
            self._text = self._query.config.text
            self._on_warning(f"{error}; the query stays {self._text!r}")
