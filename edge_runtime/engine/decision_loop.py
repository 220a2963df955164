"""The decision loop of one stream: decide, apply the policy, number the response, deliver it.

``edge-run`` (:mod:`edge_runtime.app.run.runner`), the GStreamer element and :class:`Watcher
<edge_runtime.engine.watcher.Watcher>` run this one loop; they differ in where frames come from and where
responses go. A frame's visual tokens are computed once and given to every session. Queries share a session
as far as the bundle allows (:mod:`edge_runtime.engine.shared_session`): each response names its query with
certainty, and a text that names none is dropped and counted. Several sessions share calls of the engine where
the model can (:mod:`edge_runtime.backends.batcher`).

A model that decides later (:mod:`edge_runtime.engine.endpoint`) gives no step for the frame that is pushed:
:meth:`DecisionLoop.late` gives it when the decision has come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.engine.decision import Decision
from edge_runtime.engine.query import Query, Revision
from edge_runtime.engine.shared_session import SharedSession
from edge_runtime.engine.stream_model import StreamModel
from edge_runtime.engine.timestep import Decided, Timestep
from edge_runtime.errors import EdgeError
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Response


@dataclass(frozen=True)
class Step:
    """What one query came to at one timestep."""

    query: str
    """Its id."""
    decision: Decision
    latency_ms: dict[str, float]
    """From the frame: ``decision``, and when it speaks ``first_token``; ``total``."""
    response: Response | None = None
    """None while it is silent, and when the policy suppressed what it said."""
    suppressed: str | None = None
    """The policy's reason."""
    leads: bool = True
    """False when the decision is that of an earlier query's step, whose session this query shares."""


class DecisionLoop:
    """Queries of one stream. For one thread at a time.

    ``ids`` numbers the responses. ``deliver(response)`` is called within :meth:`step` and says whether the
    response went out: cooldown, repeats and budget of its query count from what did. ``clock`` gives seconds.
    Raises EdgeError when a query cannot be asked.
    """

    def __init__(
        self,
        model: StreamModel,
        queries: Sequence[QueryConfig],
        ids: EventIds,
        deliver: Callable[[Response], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._ids, self._deliver, self._clock = model, ids, deliver, clock
        self._numbered = 0
        self._before_ms: dict[float, float] = {}  # of timesteps that are not decided yet, by their end
        self.queries: list[Query] = []
        try:
            for config in queries:
                self.add(config)
        except EdgeError:
            self.close()
            raise

    @property
    def watched(self) -> list[Query]:
        """Those that are not paused, in order: a timestep costs nothing for the others."""
        return [query for query in self.queries if not query.config.paused]

    def add(self, config: QueryConfig) -> Query:
        """Watch for one more query, from ``config.at`` seconds of the stream."""
        query = self._open(config, f"q{self._numbered + 1}", config.at, self._sessions())
        self._numbered += 1
        self.queries.append(query)
        return query

    def ask_due(self, time_s: float) -> list[Query]:
        """Ask the queries whose time lies at or before ``time_s``, the end of the timestep that follows."""
        due = [query for query in self.queries if not query.asked and query.due <= time_s]
        for query in due:
            query.ask()
        return due

    def step(self, visual_tokens: Any, index: int, since: float | None = None) -> list[Step]:
        """Decide on timestep ``index`` for every query that is not paused; no step for a query whose decision
        comes later.

        ``visual_tokens`` [1, V, D]: see :meth:`StreamSession.push_tokens
        <edge_runtime.engine.session.StreamSession.push_tokens>`. ``since``: when the frame was there, on the
        clock; latencies count from then, by default from the call. Raises BackendError and what ``deliver``
        raises.
        """
        return self.finish(self.begin(visual_tokens, index, since))

    def begin(self, visual_tokens: Any, index: int, since: float | None = None) -> Timestep:
        """The first half of :meth:`step`: no session has decided yet. :meth:`finish` it before the next one.

        In between, :func:`~edge_runtime.engine.timestep.push_together` may let sessions of several streams
        decide.
        """
        start = self._clock() if since is None else since

        def push(shared: SharedSession) -> Decided | None:
            before_ms = (self._clock() - start) * 1e3
            decision = shared.session.push_tokens(visual_tokens, index)
            if decision is None:
                self._before_ms[self._model.stream_format.interval(index)[1]] = before_ms
            return None if decision is None else Decided(before_ms, decision)

        return Timestep(self.watched, push, self._model.batcher)

    def finish(self, timestep: Timestep) -> list[Step]:
        """The second half: let those sessions decide that have not, and react to each query's decision."""
        leading = {query.shared: query for query in reversed(timestep.queries)}
        steps = []
        for query in timestep.queries:
            found = timestep.decided(query.shared)
            if found is not None:
                steps.append(self._react(query, found, leads=leading[query.shared] is query))
        return steps

    def late(self) -> list[Step]:
        """A step for each decision that has come since. Raises BackendError when none can come any more, and
        what ``deliver`` raises.
        """
        steps = []
        for query in self.queries:
            decision = query.session.take()
            if decision is not None and not query.config.paused:
                before_ms = self._before_ms.get(decision.time, 0.0)
                steps.append(self._react(query, Decided(before_ms, decision), leads=True))
        if self._before_ms:
            kept = self.undecided
            self._before_ms = {end: ms for end, ms in self._before_ms.items() if end in kept}
        return steps

    @property
    def undecided(self) -> frozenset[float]:
        """Ends of the timesteps that a query is still to be decided on, in seconds of the stream."""
        return frozenset(end for query in self.watched for end in query.session.undecided)

    def prepare(self, wanted: Sequence[tuple[Query | None, QueryConfig]], now_s: float) -> Revision:
        """Make ready to watch for these configurations instead, each with the query that it is of.

        None stands for a new query, which is asked from ``now_s`` of the stream at the earliest. A query that
        is to have another text is replaced by one of the same id with a new session. Nothing changes until
        :meth:`revise`. Raises EdgeError if one of them cannot be asked.
        """
        numbered = self._numbered
        open_ones = self._sessions()
        added: list[Query] = []
        queries: list[Query] = []
        try:
            for query, config in wanted:
                if query is None:
                    numbered += 1
                    query = self._open(config, f"q{numbered}", max(config.at, now_s), open_ones)
                    added.append(query)
                elif query.config.text != config.text:
                    # Not in the session that the old one is in: a session has an id once.
                    others = [shared for shared in open_ones if shared is not query.shared]
                    query = self._open(config, query.id, max(config.at, now_s), others)
                    added.append(query)
                    open_ones = list(dict.fromkeys([*open_ones, query.shared]))
                queries.append(query)
        except EdgeError:
            for query in added:
                query.withdraw()
            raise
        removed = tuple(query for query in self.queries if query not in queries)
        return Revision(tuple(queries), tuple(c for _, c in wanted), tuple(added), removed, numbered)

    def revise(self, revision: Revision) -> list[tuple[str, Query]]:
        """Take over, between two timesteps. Returns what became of which query: ``removed``, ``added`` or
        ``changed``.
        """
        changes = [("removed", query) for query in revision.removed]
        for query in revision.removed:
            query.withdraw()
        for query, config in zip(revision.queries, revision.configs, strict=True):
            if query in revision.added:
                changes.append(("added", query))
            elif query.config != config:
                query.configure(config)
                changes.append(("changed", query))
        self._numbered = revision.numbered
        self.queries = list(revision.queries)
        return changes

    def reset(self) -> None:
        """Start again as for a new stream; queries that were asked stay asked."""
        for shared in self._sessions():
            shared.session.reset(keep_queries=True)
        for query in self.queries:
            query.reset()

    def close(self) -> None:
        """Free the sessions. Closing twice is harmless."""
        for query in self.queries:
            query.session.close()

    def _sessions(self) -> list[SharedSession]:
        return list(dict.fromkeys(query.shared for query in self.queries))

    def _open(self, config: QueryConfig, id: str, due: float, open_ones: list[SharedSession]) -> Query:
        return Query(self._model, id, config, live=self._ids.live, due=due, open_ones=open_ones)

    def _react(self, query: Query, decided: Decided, leads: bool) -> Step:
        decision = decided.decision
        # The session counts from its push; latencies count from the frame.
        latency: dict[str, float] = {
            name: decided.before_ms + decision.timing[name]
            for name in ("decision", "first_token", "total")
            if name in decision.timing
        }
        if not decision.decided:
            return Step(query.id, decision, latency, leads=leads)
        query.score = decision.score
        if query.shared.grouped:
            decision = decision.about(query.id)
        if decision.delegated is not None and leads:
            self._deliver(self._response(query, decision, decision.delegated, latency, delegation=True))
        query.policy.observe(decision.speak)
        if not decision.speak:
            return Step(query.id, decision, latency, leads=leads)
        text = decision.text or ""
        reason = query.policy.review(decision.time, text)
        if reason is not None:
            return Step(query.id, decision, latency, suppressed=reason, leads=leads)
        response = self._response(query, decision, text, latency)
        if self._deliver(response):
            query.policy.delivered(decision.time, text)
        return Step(query.id, decision, latency, response, leads=leads)

    def _response(
        self,
        query: Query,
        decision: Decision,
        text: str,
        latency: dict[str, float],
        *,
        delegation: bool = False,
    ) -> Response:
        about = (query.id, query.config.text)
        id = self._ids.next("delegation" if delegation else "response", decision.time, about)
        return Response(
            id,
            *about,
            decision.time,
            decision.interval,
            text,
            decision.score,
            latency,
            delegation,
        )
