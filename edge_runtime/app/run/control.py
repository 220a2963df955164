"""What other threads may ask of a run: its state, its questions, its events and its newest frames.

HTTP (:mod:`edge_runtime.app.web`) and MQTT change questions through this one class. A change is carried out
between two timesteps by the thread that runs the model, as a reload of ``edge-run.toml`` is
(:mod:`edge_runtime.app.run.reload`): no frame is lost, and it is in force at the next timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from edge_runtime.app.run.handover import Handover
from edge_runtime.app.run.run_spec import WatchedCamera
from edge_runtime.app.run.runner import Runner
from edge_runtime.engine.decision_loop import Step
from edge_runtime.engine.query import Query
from edge_runtime.engine.stream_model import StreamModel
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.events.feed import Feed
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event
from edge_runtime.sinks import Sink
from edge_runtime.video.framing import Polygon
from edge_runtime.video.source import Frame
from edge_runtime.video.zones import as_seen

_T = TypeVar("_T")

MOST_QUERIES = 32
"""Of one camera: each costs a cache and a share of every timestep."""


class UnknownCameraError(EdgeError):
    """No camera of that name is watched."""


class UnknownQueryError(EdgeError):
    """The camera has no query of that id."""


@dataclass(frozen=True)
class CameraStatus:
    """A camera as it is now."""

    name: str
    live: bool
    """False for a recording, whose time is its own."""
    state: str
    """connecting, live, stalled, auth-failed, ended, failed; empty before the run has begun."""
    cause: str
    width: int | None
    height: int | None
    """Of its video; None before the first frame."""
    decoder: str
    fps: float
    """Timesteps per second."""
    dropped: int
    reconnects: int
    timesteps: int
    still: int
    """Timesteps left out because the scene stood still."""
    p50_ms: float | None
    p99_ms: float | None
    """From the frame to the decision; None before the first one."""
    aspect: float | None
    """Width by height of the part that is seen; None before the first frame."""
    zones: tuple[tuple[str, Polygon], ...]
    """Names and corners, as the model sees the frame: cropped and rotated."""


@dataclass(frozen=True)
class QueryStatus:
    """A query as it is now."""

    id: str
    text: str
    threshold: float
    """The one in force: its own or the model's."""
    paused: bool
    asked: bool
    """False until its time has come."""
    policy: PolicySettings
    score: float | None
    """Of the last timestep."""
    unknown_words: tuple[str, ...]
    """What the model was not trained for; the query is paused until somebody resumes it."""


@dataclass(frozen=True)
class QueryChange:
    """What is to change; None: leave it."""

    text: str | None = None
    """The model forgets what it saw under the old text. A query that was paused because the model was not
    trained for it goes on if the model was trained for this one.
    """
    threshold: float | None = None
    paused: bool | None = None
    policy: PolicySettings | None = None
    """All of it, threshold included; ``threshold`` above comes on top."""


@dataclass(frozen=True)
class Scores:
    """The scores of one timestep of one camera."""

    camera: str
    time: float
    """End of its interval, in seconds of the stream."""
    steps: tuple[Step, ...]


class EventFeed(Sink):
    """The end of the events that :meth:`Control.subscribe` listens at."""

    name = "live"

    def __init__(self) -> None:
        self.feed: Feed[Event] = Feed()

    def write(self, event: Event) -> bool:
        self.feed.publish(event)
        return False  # seen is not delivered: the policy counts what a real sink took


class Control:
    """For any thread. Calls that change something block until it is done, at the next moment between two
    timesteps. They raise UnknownCameraError, UnknownQueryError, ConfigError for a question that cannot be
    asked, and EdgeError when the run is over or does not come to it in time.

    The thread that runs the model calls :meth:`carry_out` between two timesteps and :meth:`close` at the end.
    ``wake`` is called when there is something to carry out.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.sink = EventFeed()
        """Write every event of the run to it."""
        self._handover = Handover(wake)
        self._scores: Feed[Scores] = Feed()
        self._left: Feed[str] = Feed()
        self._watched: dict[str, WatchedCamera] = {}
        self._frames: dict[str, Frame] = {}

    def watch(self, watched: Sequence[WatchedCamera]) -> None:
        """The cameras of the run. Call it once, before the first timestep."""
        self._watched = {}
        for one in watched:
            self.join(one)

    def join(self, one: WatchedCamera) -> None:
        """One more camera; between two timesteps."""
        # A new table each time: other threads may be reading the one before.
        self._watched = {**self._watched, one.runner.stream: one}
        one.runner.observer = self._observer(one.runner.stream)

    def leave(self, camera: str) -> None:
        """Forget a camera; between two timesteps. Subscribers of :meth:`subscribe_left` get its name."""
        self._watched = {name: one for name, one in self._watched.items() if name != camera}
        self._frames.pop(camera, None)
        self._left.publish(camera)

    def cameras(self) -> tuple[CameraStatus, ...]:
        return tuple(_camera_status(one) for one in self._watched.values())

    def camera(self, name: str) -> CameraStatus:
        return _camera_status(self._find(name))

    def models(self) -> tuple[StreamModel, ...]:
        """What the cameras are watched with, each once."""
        loaded = [one.runner.model for one in self._watched.values()]
        return tuple({model.identity: model for model in loaded}.values())

    def queries(self, camera: str) -> tuple[QueryStatus, ...]:
        return tuple(_query_status(query) for query in self._find(camera).runner.loop.queries)

    def query(self, camera: str, query_id: str) -> QueryStatus:
        return _query_status(_find_query(self._find(camera).runner, query_id))

    def default_policy(self, camera: str) -> PolicySettings:
        """What a new question of that camera starts from."""
        return self._find(camera).config.policy

    def ask(self, camera: str, query: QueryConfig) -> QueryStatus:
        """Watch for one more query: from now on, or from ``query.at`` seconds of the stream if that comes
        later.
        """

        def action(runner: Runner) -> QueryStatus:
            if len(runner.loop.queries) >= MOST_QUERIES:
                raise ConfigError(f"{camera} has {MOST_QUERIES} questions already; withdraw one first")
            _revise(runner, [*_as_they_are(runner), (None, query)])
            return _query_status(runner.loop.queries[-1])

        return self._change(camera, action)

    def change(self, camera: str, query_id: str, change: QueryChange) -> QueryStatus:
        def action(runner: Runner) -> QueryStatus:
            query = _find_query(runner, query_id)
            changed = _changed(query, change)
            _revise(runner, [(q, changed if q is query else c) for q, c in _as_they_are(runner)])
            return _query_status(_find_query(runner, query_id))

        return self._change(camera, action)

    def withdraw(self, camera: str, query_id: str) -> None:
        """Stop watching for a query. Its id is not given again."""

        def action(runner: Runner) -> None:
            query = _find_query(runner, query_id)
            _revise(runner, [(q, config) for q, config in _as_they_are(runner) if q is not query])

        self._change(camera, action)

    def subscribe(self, receive: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``receive`` with every event from now on, in the thread of the run: it must not block, nor
        change the run. Returns a function that ends that.
        """
        return self.sink.feed.subscribe(receive)

    def subscribe_scores(self, receive: Callable[[Scores], None]) -> Callable[[], None]:
        """The same of the scores of every timestep."""
        return self._scores.subscribe(receive)

    def subscribe_left(self, receive: Callable[[str], None]) -> Callable[[], None]:
        """The same of the names of cameras that were removed."""
        return self._left.subscribe(receive)

    def between_timesteps(self, action: Callable[[], _T]) -> _T:
        """Have ``action`` carried out by the thread that runs the model, as all changes are."""
        return self._handover.call(action)

    def watch_pictures(self, camera: str, seconds: float) -> None:
        """Somebody watches: frames of the next ``seconds`` come with their picture at the video's size."""
        self._find(camera).camera.want_pictures(seconds)

    def latest_frame(self, camera: str) -> Frame | None:
        """The newest frame that was decided on, masks applied, of the model's size: uint8 [H, W, 3] RGB in
        ``image``; None before the first one.
        """
        self._find(camera)
        return self._frames.get(camera)

    def carry_out(self) -> None:
        """Make the changes that wait. Raises ReaderGoneError alone."""
        self._handover.carry_out()

    def close(self) -> None:
        """Refuse further changes: the run is over."""
        self._handover.close("the run is over; start edge-run again")

    def _find(self, camera: str) -> WatchedCamera:
        one = self._watched.get(camera)
        if one is None:
            known = ", ".join(self._watched) or "none"
            raise UnknownCameraError(f"{camera}: no such camera is watched (there are: {known})")
        return one

    def _change(self, camera: str, action: Callable[[Runner], _T]) -> _T:
        runner = self._find(camera).runner

        def in_its_thread() -> _T:
            if runner.over:
                raise EdgeError(f"{camera}: it is not watched any more, {runner.state}: {runner.cause}")
            return action(runner)

        return self._handover.call(in_its_thread)

    def _observer(self, name: str) -> Callable[[Frame, float, Sequence[Step]], None]:
        def observe(frame: Frame, time_s: float, steps: Sequence[Step]) -> None:
            self._frames[name] = frame
            self._scores.publish(Scores(name, time_s, tuple(steps)))

        return observe


def _as_they_are(runner: Runner) -> list[tuple[Query | None, QueryConfig]]:
    return [(query, query.config) for query in runner.loop.queries]


def _revise(runner: Runner, wanted: Sequence[tuple[Query | None, QueryConfig]]) -> None:
    runner.revise(runner.prepare(wanted))


def _find_query(runner: Runner, id: str) -> Query:
    query = next((one for one in runner.loop.queries if one.id == id), None)
    if query is None:
        known = ", ".join(one.id for one in runner.loop.queries) or "none"
        raise UnknownQueryError(f"{runner.stream}: no query {id} (there are: {known})")
    return query


def _changed(query: Query, change: QueryChange) -> QueryConfig:
    config = query.config
    if query.unknown_words and change.text not in (None, config.text):
        config = replace(config, paused=False)  # it was the old text that paused it
    policy = config.policy if change.policy is None else change.policy
    try:
        if change.threshold is not None:
            policy = replace(policy, threshold=change.threshold)
    except ValueError as err:
        raise ConfigError(str(err)) from err
    return replace(
        config,
        text=config.text if change.text is None else change.text,
        policy=policy,
        paused=config.paused if change.paused is None else change.paused,
    )


def _camera_status(one: WatchedCamera) -> CameraStatus:
    runner, camera = one.runner, one.camera
    width, height = camera.resolution or (None, None)
    decision, framing = runner.telemetry.decision, one.config.options.framing
    return CameraStatus(
        runner.stream,
        camera.live,
        runner.state,
        runner.cause,
        width,
        height,
        camera.decoder,
        runner.model.stream_format.fps,
        camera.dropped,
        camera.reconnects,
        runner.telemetry.timesteps,
        runner.telemetry.still,
        decision.percentile(50),
        decision.percentile(99),
        framing.aspect(width, height) if width and height else None,
        tuple((zone.name, as_seen(zone.polygon, framing)) for zone in one.config.zones),
    )


def _query_status(query: Query) -> QueryStatus:
    config = query.config
    return QueryStatus(
        query.id,
        config.text,
        query.threshold,
        config.paused,
        query.asked,
        config.policy,
        query.score,
        query.unknown_words,
    )
