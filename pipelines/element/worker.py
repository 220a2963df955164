"""The model behind the `streampro` element: a worker thread with a slot for the newest picture.

The streaming thread asks :meth:`InferenceWorker.wants` for each buffer and hands over those a timestep
takes; that is all it ever does. Scaling, the model and the policy run in the worker. When the worker is busy,
a newer picture replaces the waiting one, and the replaced timestep is counted as dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.events.policy import PolicySettings, ResponsePolicy
from edge_runtime.events.records import UlidMaker
from edge_runtime.video.sampling import TimestepSampler
from pipelines.element.scaler import PictureScaler

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


@dataclass(frozen=True)
class Response:
    """What the model said, and about which stretch of the stream: time stamps in ns as the buffers carry."""

    id: str
    pts_start: int
    pts_end: int
    text: str
    score: float


@dataclass
class Counts:
    """What became of the timesteps; read from any thread."""

    taken: int = 0
    """Pictures handed to the worker."""
    dropped: int = 0
    """Of those, replaced by a newer one before they were looked at."""
    decided: int = 0
    responses: int = 0
    suppressed: int = 0
    decision_ms: float = 0.0
    """Of the last timestep: from taking the picture to the decision."""


@dataclass(frozen=True, eq=False)
class _Picture:
    buffer: Any
    caps: Any
    index: int
    stream: int
    """Counts flushes: a picture of another stream starts a new session."""
    origin_ns: int
    taken_at: float


class InferenceWorker:
    """See the module's text. ``start``, then ``wants``/``offer`` from one thread, ``close`` at the end.

    ``on_response(response)``, ``on_warning(text)`` and ``on_error(exception)`` are called on the worker.
    After an error the worker takes no more pictures.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        *,
        on_response: Callable[[Response], None],
        on_warning: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Load the model. Raises EdgeError for a bundle, query or engine that cannot be used."""
        import edge_runtime
        from edge_runtime.engine.decision_loop import with_fps
        from edge_runtime.observability.log import lines_to

        if not settings.query.strip():
            raise ConfigError('query: the text is empty; set query="what to watch for"')
        with lines_to(on_warning, "edge_runtime.backends"):
            model = edge_runtime.load(settings.bundle, threads=settings.threads, backend=settings.backend)
        self._model = with_fps(model, settings.fps or model.protocol.fps)
        self._policy = ResponsePolicy(PolicySettings(settings.threshold, settings.min_gap_s))
        self._session = self._model.session(threshold=settings.threshold)
        self._vision = self._model.open_vision()
        self._query = settings.query
        self._query_id = self._session.ask(settings.query)
        self._on_response, self._on_warning, self._on_error = on_response, on_warning, on_error
        self._ids = UlidMaker()
        self._sampler = TimestepSampler(self._model.protocol.fps)
        self._origin_ns: int | None = None
        self._segment_ns = self._last_ns = 0
        self._stream = self._session_stream = 0
        self.paused = False
        self.counts = Counts()
        self._slot: _Picture | None = None
        self._busy = self._closing = False
        self._changed = threading.Condition()
        height, width = self._model.bundle.model.image_size
        self._scaler = PictureScaler((width, height))
        self._thread = threading.Thread(target=self._run, name="streampro", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ------------------------------------------------------------------ any thread

    def set_query(self, text: str) -> None:
        """Ask something else from the next timestep on."""
        self._query = text

    def set_policy(self, threshold: float | None, min_gap_s: float) -> None:
        """Change when responses go out, from the next timestep on."""
        settings = PolicySettings(threshold, min_gap_s)
        self._session.threshold = self._model.protocol.threshold if threshold is None else threshold
        self._policy.settings = settings

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
        picture = _Picture(buffer, caps, index, self._stream, self._origin_ns, time.monotonic())
        with self._changed:
            self.counts.taken += 1
            self.counts.dropped += self._slot is not None
            self._slot = picture
            self._changed.notify_all()

    def new_segment(self, start_ns: int) -> None:
        """Buffers stamped ``start_ns`` lie at the start of what follows."""
        self._segment_ns = start_ns

    def flush(self) -> None:
        """What comes next is another stream (after a seek): time starts anew."""
        with self._changed:
            self._slot = None
        self._stream += 1
        self._origin_ns = None
        self._sampler.reset()

    def drain(self, timeout_s: float) -> bool:
        """Wait until the pictures handed over have been decided upon; False when that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._slot is None and not self._busy, timeout_s)

    def close(self) -> None:
        """Stop and free everything."""
        with self._changed:
            self._closing, self._slot = True, None
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S)
        self._scaler.close()
        self._session.close()

    # ------------------------------------------------------------------ the worker

    def _run(self) -> None:
        try:
            while (picture := self._next()) is not None:
                self._decide(picture)
        except Exception as error:
            if not self._closing:
                self._on_error(error)
        finally:
            with self._changed:
                self._slot, self._busy = None, False
                self._changed.notify_all()

    def _next(self) -> _Picture | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._slot is not None or self._closing)
            picture, self._slot = self._slot, None
            self._busy = picture is not None
            return picture

    def _decide(self, picture: _Picture) -> None:
        if picture.stream != self._session_stream:
            self._session_stream = picture.stream
            self._session.reset(keep_queries=True)
            self._vision.reset()
            self._policy = ResponsePolicy(self._policy.settings)
        self._change_query()
        image = self._scaler.convert(picture.buffer, picture.caps)
        decision = self._session.push_tokens(self._vision.see(image), picture.index)
        self.counts.decided += 1
        text_s = (decision.timing["total"] - decision.timing["decision"]) / 1e3
        self.counts.decision_ms = (time.monotonic() - picture.taken_at - text_s) * 1e3
        if not decision.speak:
            return
        text = decision.text or ""
        if self._policy.review(decision.time, text) is not None:
            self.counts.suppressed += 1
            return
        start, end = (picture.origin_ns + round(seconds * _NS) for seconds in decision.interval)
        self.counts.responses += 1
        self._on_response(Response(self._ids.next(), start, end, text, decision.score))
        self._policy.delivered(decision.time, text)

    def _change_query(self) -> None:
        text = self._query
        if self._session.queries[self._query_id] == text:
            return
        old = self._session.queries[self._query_id]
        self._session.remove(self._query_id)  # first: a model may watch for one query at a time
        try:
            self._query_id = self._session.ask(text)
        except ConfigError as error:
            self._query, self._query_id = old, self._session.ask(old)
            self._on_warning(f"{error}; the query stays {old!r}")
