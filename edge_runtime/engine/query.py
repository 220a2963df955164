"""One query of one stream: its place in a session, its policy, and how it changes while the stream runs.

The cache of a session is only ever appended to, so ``edge-run`` never edits a query: another text is another
query. One that has a session of its own remembers nothing from before, as at the start of a stream; one that
joins others (:mod:`edge_runtime.engine.shared_session`) knows what their session has seen. It may have the id
of the one that it replaces. A query whose text stays keeps session, memory and policy history, whatever else
about it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from edge_runtime.engine.shared_session import SharedSession
from edge_runtime.engine.stream_model import StreamModel, WatchSession
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
        model: StreamModel,
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
        self.score: float | None = None
        """Of the last timestep; None before the first one, and while it is paused."""
        self.shared = SharedSession.with_place(model, id, config.text, config.policy.threshold, open_ones)
        self._in_force = False
        self._model = model
        self.unknown_words: tuple[str, ...] = ()
        """What the model was not trained for. While there are any it is paused: it costs nothing, and who
        resumes it asks it anyway.
        """
        self._check()
        self._now = datetime.now if live else None
        self.policy = ResponsePolicy(config.policy, self._now)

    @property
    def session(self) -> WatchSession:
        """The session it is asked in, perhaps with others."""
        return self.shared.session

    @property
    def threshold(self) -> float:
        """From which score on it responds: its own, or the model's."""
        own = self.config.policy.threshold
        return self._model.stream_format.threshold if own is None else own

    def ask(self) -> None:
        """Put it into force from the next timestep, unless it has ``unknown_words``."""
        self.asked = True
        self._enforce()

    def not_trained(self) -> str:
        """One sentence for a query with ``unknown_words``."""
        words = ", ".join(f'"{word}"' for word in self.unknown_words)
        return (
            f'"{self.config.text}": {self._model.name} was not trained for {words}, so it is not '
            "asked; edge-run questions shows what works, ask_anyway asks it nevertheless"
        )

    def _check(self) -> None:
        known = self._model.knowledge
        if known is None or self.config.ask_anyway:
            self.unknown_words = ()
        else:
            self.unknown_words = known.unknown_words(self.config.text, self._model.zone_names)
        if self.unknown_words:
            self.config = replace(self.config, paused=True)

    def _enforce(self) -> None:
        if self.asked and not self._in_force and not self.unknown_words:
            self.shared.ask(self.id)
            self._in_force = True

    def configure(self, config: QueryConfig) -> None:
        """Go on under other settings; the text is the same."""
        if not self.asked:
            self.due = config.at
        self.set_policy(config.policy)
        if config.ask_anyway and not self.config.ask_anyway and self.unknown_words:
            config = replace(config, paused=False)
        if config.paused:
            self.score = None
        else:
            self.unknown_words = ()
        self.config = config
        self._enforce()

    def set_policy(self, settings: PolicySettings) -> None:
        """Change when responses go out, from the next timestep on. Any thread."""
        self.session.set_threshold(self.id, settings.threshold)
        self.policy.settings = settings
        self.config = replace(self.config, policy=settings)

    def reword(self, text: str) -> None:
        """Ask something else, on the same session, which remembers the stream, as long as that has a number
        left; then on a new one. Raises ConfigError when that cannot be asked: then the old text stays.
        """
        if not (self._in_force and self._replaced(text)):
            another = SharedSession.with_place(self._model, self.id, text, self.config.policy.threshold, [])
            self.shared.leave(self.id)
            self.shared, self._in_force = another, False
        resumed = replace(self.config, paused=False) if self.unknown_words else self.config
        self.config = replace(resumed, text=text)
        self._check()
        self._enforce()

    def _replaced(self, text: str) -> bool:
        """Ask ``text`` in the session it is in; False when that has no number left."""
        try:
            self.shared.replace(self.id, text, self.config.policy.threshold)
        except ConfigError:
            if not self.shared.grouped:
                raise
            return False
        return True

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
    numbered: int
    """How many ids have been given by then."""

    def discard(self) -> None:
        """Free what was made ready: it will not be used."""
        for query in self.added:
            query.withdraw()
