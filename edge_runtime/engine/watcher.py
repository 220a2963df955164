"""Watching one stream from Python: frames in, responses out that passed the policy and carry an id."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from edge_runtime.engine.decision_loop import DecisionLoop
from edge_runtime.engine.model import Model
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Response
from edge_runtime.video.sampling import TimestepSampler

_log = logging.getLogger(__name__)


class Watcher:
    """Any number of queries on one stream; made by :func:`edge_runtime.watch`. For one thread at a time.

    Use as a context manager, or :meth:`close`. For single decisions without policy see
    :class:`~edge_runtime.engine.session.StreamSession`.

    ``identity``: None for a live stream, whose ids grow with time; for a recording a text that is the same
    whenever the same recording is watched: then its ids are the same on every run.
    """

    def __init__(self, model: Model, *, identity: str | None = None) -> None:
        self._responses: list[Response] = []
        self._loop = DecisionLoop(model, [], EventIds("watcher", identity), self._deliver)
        self._vision = model.open_vision()
        self._sampler = TimestepSampler(model.stream_format.fps)
        self._interval = model.stream_format.interval

    def ask(
        self, text: str, *, at: float = 0.0, policy: PolicySettings | None = None, ask_anyway: bool = False
    ) -> str:
        """Watch for ``text`` from ``at`` seconds of the stream on, or from now if that is over.

        ``policy``: which responses go out; by default every one that is not a repeat within 5 s. A query
        outside what the bundle knows is not asked, with one warning in the log, unless ``ask_anyway``.
        Returns the query's id (``q1``, ``q2``, ...). Raises ConfigError when the query cannot be asked.
        """
        config = QueryConfig(text, at, policy or PolicySettings(), ask_anyway)
        return self._loop.add(config).id

    def push(self, frame: Any, t: float) -> list[Response]:
        """Show a frame: uint8 [H, W, 3] RGB of any size, at ``t`` seconds from the start of the stream.

        Push every frame you have: one that closes no timestep costs nothing. Returns the responses, at most
        one per query. Raises SourceError for a frame that cannot be used, BackendError.
        """
        index = self._sampler.take(t)
        if index is None:
            return []
        for query in self._loop.ask_due(self._interval(index)[1]):
            if query.unknown_words:
                _log.warning("%s %s", query.id, query.not_trained())
        if self._loop.queries and not self._loop.watched:
            self._vision.reset()  # the frame before the next one will be long ago
            return []
        self._responses = []
        self._loop.step(self._vision.see(frame), index)
        return self._responses

    def responses(self, frames: Iterable[tuple[float, Any]]) -> Iterator[Response]:
        """:meth:`push` each of ``frames``, (seconds, frame) in order, and yield what comes of it."""
        for t, frame in frames:
            yield from self.push(frame, t)

    def close(self) -> None:
        """Free the sessions. Closing twice is harmless."""
        self._loop.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, response: Response) -> bool:
        self._responses.append(response)
        return True
