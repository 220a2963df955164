"""Watching one stream from Python: frames in, responses out that passed the policy and carry an id."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from edge_runtime.engine.decision_loop import DecisionLoop
from edge_runtime.engine.model import Model
from edge_runtime.engine.query import Query
from edge_runtime.errors import ConfigError
from edge_runtime.events.feed import Feed
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Response
from edge_runtime.events.waiting import Waiting
from edge_runtime.video.sampling import TimestepSampler

_log = logging.getLogger(__name__)
_MOST_WAITING = 1000


class Watcher:
    """Any number of queries on one stream; made by :func:`edge_runtime.watch`.

    One thread pushes frames. Any thread may ask, change and withdraw: that waits for the timestep in hand and
    is in force at the next one. Use as a context manager, or :meth:`close`. For single decisions without
    policy see :class:`~edge_runtime.engine.session.StreamSession`.

    ``identity``: None for a live stream, whose ids grow with time; for a recording a text that is the same
    whenever the same recording is watched: then its ids are the same on every run.
    """

    def __init__(self, model: Model, *, identity: str | None = None) -> None:
        self._responses: list[Response] = []
        self._loop = DecisionLoop(model, [], EventIds("watcher", identity), self._deliver)
        self._vision = model.open_vision()
        self._sampler = TimestepSampler(model.stream_format.fps)
        self._interval = model.stream_format.interval
        self._now_s = 0.0
        self._between = threading.Lock()
        """Held during a timestep and during a change."""
        self._feed: Feed[Response] = Feed()
        self._streams: list[Waiting[Response]] = []
        self._closed = False

    @property
    def queries(self) -> dict[str, str]:
        """What is watched for, paused queries included: id to text."""
        return {query.id: query.config.text for query in self._loop.queries}

    def ask(
        self, text: str, *, at: float = 0.0, policy: PolicySettings | None = None, ask_anyway: bool = False
    ) -> str:
        """Watch for ``text`` from ``at`` seconds of the stream on, or from now if that is over.

        ``policy``: which responses go out; by default every one that is not a repeat within 5 s. A query
        outside what the bundle knows is not asked, with one warning in the log, unless ``ask_anyway``.
        Returns the query's id (``q1``, ``q2``, ...). Raises ConfigError when the query cannot be asked.
        """
        config = QueryConfig(text, at, policy or PolicySettings(), ask_anyway)
        with self._between:
            return self._loop.add(config).id

    def change(
        self,
        query: str,
        *,
        text: str | None = None,
        policy: PolicySettings | None = None,
        paused: bool | None = None,
    ) -> None:
        """Change what is given of the query with that id. A paused query costs nothing.

        With another text it forgets what it saw. Raises ConfigError for an unknown id and for a text that
        cannot be asked: then nothing has changed.
        """
        with self._between:
            found = self._find(query)
            old = found.config
            config = replace(
                old,
                text=old.text if text is None else text,
                policy=old.policy if policy is None else policy,
                paused=old.paused if paused is None else paused,
            )
            self._revise([(q, config if q is found else q.config) for q in self._loop.queries])

    def withdraw(self, query: str) -> None:
        """Stop watching for the query with that id. Raises ConfigError for an unknown id."""
        with self._between:
            found = self._find(query)
            self._revise([(q, q.config) for q in self._loop.queries if q is not found])

    def push(self, frame: Any, t: float) -> list[Response]:
        """Show a frame: uint8 [H, W, 3] RGB of any size, at ``t`` seconds from the start of the stream.

        Push every frame you have: one that closes no timestep costs nothing. Returns the responses, at most
        one per query. Raises SourceError for a frame that cannot be used, BackendError.
        """
        with self._between:
            responses = self._step(frame, t)
        for response in responses:
            self._feed.publish(response)
        return responses

    def responses(self, frames: Iterable[tuple[float, Any]]) -> Iterator[Response]:
        """:meth:`push` each of ``frames``, (seconds, frame) in order, and yield what comes of it."""
        for t, frame in frames:
            yield from self.push(frame, t)

    def on_response(self, receive: Callable[[Response], object]) -> Callable[[], None]:
        """Call ``receive`` with every response from now on, in the thread that pushes, after its timestep.

        Returns a function that ends that. An error that it raises is logged.
        """
        return self._feed.subscribe(receive)

    def events(self) -> Waiting[Response]:
        """Responses from now on, for ``async for`` in a running event loop; frames are pushed elsewhere.

        Ends when the watcher is closed. Of more than 1000 that wait the oldest give way, see ``dropped``.
        """
        stream: Waiting[Response] = Waiting(_MOST_WAITING)
        unsubscribe = self._feed.subscribe(stream.put)

        def forget() -> None:
            unsubscribe()
            self._streams.remove(stream)

        stream.on_close = forget
        self._streams.append(stream)
        if self._closed:
            stream.end()
        return stream

    def close(self) -> None:
        """Free the sessions. Closing twice is harmless."""
        with self._between:
            self._closed = True
            self._loop.close()
        for stream in list(self._streams):
            stream.end()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _step(self, frame: Any, t: float) -> list[Response]:
        index = self._sampler.take(t)
        if index is None:
            return []
        self._now_s = self._interval(index)[1]
        for query in self._loop.ask_due(self._now_s):
            if query.unknown_words:
                _log.warning("%s %s", query.id, query.not_trained())
        self._responses = []
        if self._loop.watched:
            self._loop.step(self._vision.see(frame), index)
        else:
            self._vision.reset()  # the frame before the next one will be long ago
        return self._responses

    def _find(self, id: str) -> Query:
        query = next((one for one in self._loop.queries if one.id == id), None)
        if query is None:
            raise ConfigError(f"query {id}: no such query (there are: {', '.join(self.queries) or 'none'})")
        return query

    def _revise(self, wanted: list[tuple[Query | None, QueryConfig]]) -> None:
        self._loop.revise(self._loop.prepare(wanted, self._now_s))

    def _deliver(self, response: Response) -> bool:
        self._responses.append(response)
        return True
