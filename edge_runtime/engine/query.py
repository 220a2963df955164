"""One query of one stream: its place in a session, its policy, and how it changes while the stream runs.

The cache of a session is only ever appended to, so ``edge-run`` never edits a query: another text is another
query. One that has a session of its own remembers nothing from before, as at the start of a stream; one that
joins others (:mod:`edge_runtime.engine.shared_session`) knows what their session has seen. A query whose text
stays keeps session, memory and policy history, whatever else about it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from edge_runtime.engine.model import Model
from edge_runtime.engine.session import StreamSession
from edge_runtime.engine.shared_session import SharedSession
from edge_runtime.errors import ConfigError
from edge_runtime.events.policy import PolicySettings, ResponsePolicy
from edge_runtime.events.query_config import QueryConfig


class Query:
    """A query that is being watched, or will be from ``due`` seconds of the stream.

    ``open_ones``: sessions that it may join. ``live``: the policy keeps quiet hours. Raises EdgeError when it
    cannot be asked: now, not when due.
    """

    def __init__(
        self,
        model: Model,
        id: str,
        config: QueryConfig,
        *,
        live: bool,
        due: float,
        open_ones: Iterable[SharedSession] = (),
    ) -> None:
        self.id = id
        self.config = config
        self.due = due
        self.asked = False
        self.shared = SharedSession.with_place(model, id, config.text, config.policy.threshold, open_ones)
        self._model = model
        self._now = datetime.now if live else None
        self.policy = ResponsePolicy(config.policy, self._now)

    @property
    def session(self) -> StreamSession:
        """The session it is asked in, perhaps with others."""
        return self.shared.session

    def ask(self) -> None:
        """Put it into force from the next timestep."""
        self.shared.ask(self.id)
        self.asked = True

    def configure(self, config: QueryConfig) -> None:
        """Go on under other settings; the text is the same."""
        if not self.asked:
            self.due = config.at
        self.set_policy(config.policy)
        self.config = config

    def set_policy(self, settings: PolicySettings) -> None:
        """Change when responses go out, from the next timestep on. Any thread."""
        self.session.set_threshold(self.id, settings.threshold)
        self.policy.settings = settings
        self.config = replace(self.config, policy=settings)

    def reword(self, text: str) -> None:
        """Ask something else, on the same session, which remembers the stream, as long as that has a number
        left; then on a new one. Raises ConfigError when that cannot be asked: then the old text stays.
        """
        threshold = self.config.policy.threshold
        try:
            self.shared.replace(self.id, text, threshold)
        except ConfigError:
            if not self.shared.grouped:
                raise
            another = SharedSession.with_place(self._model, self.id, text, threshold, [])
            another.ask(self.id)
            self.shared.leave(self.id)
            self.shared = another
        self.config = replace(self.config, text=text)

    def reset(self) -> None:
        """Start again as for a new stream, with the session's; the query stays asked."""
        self.policy = ResponsePolicy(self.policy.settings, self._now)

    def withdraw(self) -> None:
        """Give up its place, from the next timestep on."""
        self.shared.leave(self.id)


@dataclass(frozen=True)
class Revision:
    """Queries made ready to take the place of others; see :meth:`DecisionLoop.revise
    <edge_runtime.engine.decision_loop.DecisionLoop.revise>`.
    """

    queries: tuple[Query, ...]
    """All that will be watched, in order, kept and new."""
    configs: tuple[QueryConfig, ...]
    """What each of them will be like."""
    added: tuple[Query, ...]
    removed: tuple[Query, ...]

    def discard(self) -> None:
        """Free what was made ready: it will not be used."""
        for query in self.added:
            query.withdraw()


def match(queries: Iterable[Query], configs: Sequence[QueryConfig]) -> tuple[list[Query | None], list[Query]]:
    """For each configuration the query that has its text already, or None; and the queries left over."""
    left = list(queries)
    found: list[Query | None] = []
    for config in configs:
        query = next((one for one in left if one.config.text == config.text), None)
        if query is not None:
            left.remove(query)
        found.append(query)
    return found, left
