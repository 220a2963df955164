"""A camera, stream or file as an iterator of selected frames and state changes.

    from pipelines.camera import Frame, open_camera

    with open_camera("rtsp://host/stream") as camera:
        for item in camera:
            if isinstance(item, Frame):  # else a StateChange
                decision = session.push(item.image, item.pts)

One supervising thread per camera owns the pipeline (:mod:`pipelines.pipeline.connection`), its watchdog and
its reconnects (:mod:`pipelines.supervisor`); frames are handed over through
:mod:`pipelines.pipeline.frame_queue`.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from edge_runtime.errors import SourceError
from edge_runtime.redaction import scrub
from edge_runtime.video.framing import Framing, Polygon
from edge_runtime.video.sampling import TimestepSampler
from pipelines.clock import Timeline
from pipelines.evidence.ring import Footage
from pipelines.evidence.tap import EvidenceTap
from pipelines.evidence.viewing import Viewing
from pipelines.gst import load
from pipelines.pipeline import end_of_file
from pipelines.pipeline.bus import EndOfStream
from pipelines.pipeline.connection import Connection
from pipelines.pipeline.frame_queue import Frame, FrameQueue, StateChange
from pipelines.sources.base import Source
from pipelines.sources.errors import ENDED_BY_SOURCE, UNREADABLE, Problem
from pipelines.sources.options import ConnectionOptions
from pipelines.sources.registry import parse_source
from pipelines.sources.skipped import Skipped
from pipelines.supervisor import Action, Connect, Disconnect, GiveUp, Report, RetryPolicy, Supervisor
from pipelines.trim_heap import trim_heap

__all__ = ["Camera", "CameraOptions", "Frame", "StateChange", "open_camera"]

_TICK_S = 0.1
_FILE_DRAIN_S = 1.0
"""After an error in a file: how long the decoder may deliver nothing before no more frames are expected."""
_FILE_SETTLED_S = 0.5
"""A file that is still without a decoder after this time is asked whether it is being read at all."""
_FILE_PATIENCE_S = 30.0
"""A file whose decoder delivers nothing for so long, although frames are asked for, is given up."""


class _Ticket(NamedTuple):
    """What a frame is selected for."""

    pts: float
    indices: range  # timesteps
    captured_at: float


@dataclass(frozen=True)
class CameraOptions(ConnectionOptions, RetryPolicy):
    """All settings of a camera: see the two base classes for the meaning of theirs."""

    framing: Framing = field(default_factory=Framing)
    """Privacy masks, crop and rotation."""
    evidence: Footage | None = None
    """What is kept for snapshots and clips; None for nothing: then it costs nothing."""
    compare: bool = False
    """Compare frames. One that shows nothing new is not converted: it has the image of the one before."""


def open_camera(
    source: str | os.PathLike[str] | Source,
    *,
    fps: float = 1.0,
    size: tuple[int, int] = (224, 224),
    options: CameraOptions | None = None,
    wake: Callable[[], None] | None = None,
) -> Camera:
    """Open ``source`` (see :mod:`pipelines.sources.registry`) and start reading it, at ``fps`` timesteps per
    second.

    ``fps`` and ``size`` (width, height): those of the model that watches; the defaults are those of ``nano``.
    ``wake`` is called, from whatever thread, when there is something to read. What can be known at once (no
    such file, no GStreamer, no camera) is raised here as SourceError, the rest by the iteration.
    """
    if isinstance(source, (str, os.PathLike)):
        source = parse_source(os.fspath(source))
    return Camera(source, fps, size, options or CameraOptions(), wake)


class Camera:
    """An open source. Iterate once; ``close()``, from any thread, or leaving the ``with`` block ends it."""

    def __init__(
        self,
        source: Source,
        fps: float,
        size: tuple[int, int],
        options: CameraOptions,
        wake: Callable[[], None] | None = None,
    ) -> None:
        load()
        if (problem := source.check()) is not None:
            raise SourceError(problem.line(source.label), permanent=True)
        self._source = source
        try:
            self._source = source.resolve()
        except SourceError as error:
            if options.give_up_s == 0 or error.permanent:
                raise
        self._options = options
        self._size = size
        self._fps = fps
        self._sampler = TimestepSampler(fps)
        self._timeline = Timeline(live=source.live)
        self._queue = FrameQueue(newest_only=source.live, catch_up=options.catch_up, wake=wake)
        self._supervisor = Supervisor(self._policy(source), clock=time.monotonic)
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._tap: EvidenceTap | None = None
        self._viewing = Viewing(options.framing)
        self._closing = False
        self._detail = ""
        self._last_taken = 0.0
        self._file_problem: Problem | None = None
        self._skipped = Skipped()
        self._image: np.ndarray | None = None  # of the newest frame, where frames are compared
        self.decoder = ""
        """The decoder element in use (``none`` for raw video); empty until the first frame."""
        self._decoded_before = 0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ for the consumer

    @property
    def live(self) -> bool:
        return self._source.live

    @property
    def description(self) -> str:
        """E.g. ``file clip.mp4, h264 640x360, decoder avdec_h264``; complete once the first frame came."""
        return ", ".join(part for part in (f"{self._source.kind} {self._source.label}", self._detail) if part)

    @property
    def resolution(self) -> tuple[int, int] | None:
        """Width and height of the video as decoded; None until the first frame came."""
        found = re.search(r"\b(\d+)x(\d+)\b", self._detail)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def dropped(self) -> int:
        """Selected frames a live consumer was too slow for."""
        return self._queue.dropped

    @property
    def longest_drop_run(self) -> int:
        """Most selected frames dropped in a row."""
        return self._queue.longest_drop_run

    @property
    def decoded(self) -> int:
        """Frames decoded, selected or not."""
        connection = self._connection
        return self._decoded_before + (connection.progress.decoded if connection is not None else 0)

    @property
    def reconnects(self) -> int:
        """How often a lost source came back."""
        return self._supervisor.reconnects

    def read(self, timeout_s: float | None = None) -> Frame | StateChange | None:
        """The next item, or None after ``timeout_s``. At the end: StopIteration; on failure: SourceError."""
        return self._queue.get(timeout_s)

    def __iter__(self) -> Iterator[Frame | StateChange]:
        return self

    def __next__(self) -> Frame | StateChange:
        try:
            item = self._queue.get()
        except (StopIteration, SourceError):
            self.close()  # whoever only iterates may leave at once: Python must not go while GStreamer runs
            raise
        assert item is not None  # without a timeout there is always an item or an exception
        return item

    def set_masks(self, masks: Sequence[Polygon]) -> None:
        """Black out these polygons in place of those before, from the next frame decoded on; from any
        thread. The connection stays. Raises ValueError for polygons that cannot be.
        """
        framing = replace(self._options.framing, masks=tuple(masks))
        with self._lock:
            self._options = replace(self._options, framing=framing)
            if self._tap is not None:
                self._tap.set_masks(framing.masks)
            if self._connection is not None:
                self._connection.set_masks(framing.masks)

    def want_pictures(self, seconds: float) -> None:
        """Give frames of the next ``seconds`` with their ``picture``, for people who watch; any thread."""
        self._viewing.want(seconds)

    def close(self) -> None:
        """Stop reading and release everything. May be called again, and from any thread."""
        self._closing = True
        self._queue.close()
        if (connection := self._connection) is not None:
            connection.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the supervising thread

    def _run(self) -> None:
        try:
            self._act(self._supervisor.start())
            while not self._closing and self._supervisor.phase != "over":
                self._step()
        except SourceError as error:
            self._queue.end(error)
        except Exception as error:
            self._queue.end(SourceError(scrub(f"{self._source.label}: {type(error).__name__}: {error}")))
        finally:
            self._disconnect()
            self._queue.end()

    def _step(self) -> None:
        connection = self._connection
        if connection is None:  # waiting for the next attempt
            time.sleep(_TICK_S / 2)
        else:
            news = connection.poll(_TICK_S)
            if self._closing:
                return
            if not self._source.live:
                return self._step_file(connection, news)
            if isinstance(news, EndOfStream):
                if connection.duration_s is not None:  # a playlist that says how long it is
                    return self._finish(connection)
                news = ENDED_BY_SOURCE
            if news is not None:
                return self._notify("lost", self._source.diagnose(news, self._options))
        self._notify("tick")

    def _step_file(self, connection: Connection, news: Problem | EndOfStream | None) -> None:
        """An error in a file counts once all frames before it are delivered."""
        idle_s = 0.0
        if not self._queue.full:
            idle_s = time.monotonic() - max(connection.progress.last_decoded_at, self._last_taken)
        still = not connection.exposed and not self._source.segmented and idle_s > _FILE_SETTLED_S
        if still and connection.standing_still():
            news = news or UNREADABLE
        if isinstance(news, Problem):
            self._file_problem = self._file_problem or news
        if (problem := self._file_problem) is not None:
            if not connection.exposed or idle_s > _FILE_DRAIN_S or isinstance(news, EndOfStream):
                self._notify("lost", end_of_file.in_context(connection.reading, problem))
        elif isinstance(news, EndOfStream):
            self._finish(connection)
        elif idle_s > _FILE_PATIENCE_S:
            cause = f"decoder {connection.decoder or 'unknown'} delivers nothing for {_FILE_PATIENCE_S:g} s"
            self._notify("lost", Problem(cause, "see `edge-run doctor`", "permanent"))

    def _notify(self, event: str, *arguments: Any) -> None:
        with self._lock:
            actions: list[Action] = getattr(self._supervisor, event)(*arguments)
        self._act(actions)

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Connect):
                self._connect()
            elif isinstance(action, Disconnect):
                self._disconnect()
            elif isinstance(action, Report):
                self._queue.put_state(StateChange(action.state, scrub(action.cause)))
            elif isinstance(action, GiveUp):
                problem = action.problem
                error = SourceError(problem.line(self._source.label), permanent=problem.kind != "transient")
                self._queue.end(error)

    def _connect(self) -> None:
        problem = self._prepare()
        if self._closing:
            return
        if problem is not None:
            return self._notify("lost", problem)
        self._supervisor.server_answered()
        self._timeline.new_connection()
        with self._lock:  # new masks come before it is made, or reach it afterwards
            framing, footage = self._options.framing, self._options.evidence
            if footage is not None:
                live, keeps = self._source.live, self._options.compare
                self._tap = EvidenceTap(footage, framing, live=live, keeps_picture=keeps)
            connection = Connection(
                self._source,
                self._size,
                self._options,
                self,
                framing=framing,
                fps=self._fps,
                tap=self._tap,
                compare=self._options.compare,
            )
            self._connection = connection
            self._viewing.watch(connection.masked, connection.converter)
        connection.start()

    def _prepare(self) -> Problem | None:
        options = self._options
        found = self._source.prepare(options, options.connect_timeout_s, lambda: self._closing)
        if isinstance(found, Problem):
            return found
        if found.live != self._source.live:  # a URL does not show it, its server did
            self._timeline = Timeline(live=found.live)
            self._queue.newest_only = found.live
            self._supervisor.policy = self._policy(found)
        self._source = found
        return None

    def _policy(self, source: Source) -> RetryPolicy:
        """Trying a file again brings nothing new."""
        return self._options if source.live else replace(self._options, give_up_s=0)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._decoded_before += connection.progress.decoded
            connection.stop()
            if self._tap is not None:
                self._tap.end()
            del connection  # the last that held the pipeline
            trim_heap()

    def _finish(self, connection: Connection) -> None:
        """The source came to its end."""
        self._supervisor.phase = "over"
        change, error = end_of_file.conclude(connection.reading, self._skipped)
        self._queue.put_state(change)
        self._queue.end(error)

    # ------------------------------------------------------------------ Listener: GStreamer's threads

    def first_frame(self, detail: str) -> None:
        connection = self._connection
        self._detail, self.decoder = detail, connection.decoder if connection is not None else ""
        self._notify("first_frame", detail)

    def skipped(self, path: str, reason: str) -> None:
        state = "live" if self._supervisor.phase == "live" else "connecting"
        if cause := self._skipped.note(path, reason):
            self._queue.put_state(StateChange(state, cause))

    def select(self, raw_ns: int, captured_at: float) -> _Ticket | None:
        self._supervisor.frame_seen()
        pts = self._timeline.place(raw_ns, time.monotonic())
        index = self._sampler.take(pts)
        return None if index is None else _Ticket(pts, range(index, index + 1), captured_at)

    def select_again(self, shown_s: float, until_s: float) -> _Ticket | None:
        return self._once_more(self._sampler.passed(until_s), shown_s)

    def select_last(self, last_s: float, end_s: float) -> _Ticket | None:
        return self._once_more(self._sampler.rest(last_s, end_s), last_s)

    @staticmethod
    def _once_more(indices: range, pts: float) -> _Ticket | None:
        return _Ticket(pts, indices, time.monotonic()) if indices else None

    def frame(self, ticket: _Ticket, image: np.ndarray | None) -> bool:
        taken = True
        moment = None if self._tap is None else self._tap.moment(still=image is None)
        picture = self._viewing.take()
        if image is None:
            image = self._image
            assert image is not None  # the first frame of a connection is new
        elif self._options.compare:
            self._image = image
        for index in ticket.indices:
            shared = index == ticket.indices[-1] or self._options.compare
            owned = image if shared else image.copy()
            frame = Frame(ticket.pts, owned, ticket.captured_at, index, moment, picture)
            taken = taken and self._queue.put_frame(frame)
            self._last_taken = time.monotonic()
        return taken
