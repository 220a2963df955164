"""One query of one stream: its session, its policy, and how it changes while the stream runs.

The cache of a session is only ever appended to, so ``edge-run`` never edits a query: another text is another
query with a new session. That one remembers nothing from before, as at the start of a stream; it may have the
id of the one that it replaces. A query whose text stays keeps session, memory and policy history, whatever
else about it changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from edge_runtime.engine.model import Model
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.events.policy import PolicySettings, ResponsePolicy
from edge_runtime.events.query_config import QueryConfig


class Query:
    """A query that is being watched, or will be from ``due`` seconds of the stream.

    ``live``: the policy keeps quiet hours. Raises EdgeError when it cannot be asked: now, not when due.
    """

    def __init__(self, model: Model, id: str, config: QueryConfig, *, live: bool, due: float) -> None:
        self.id = id
        self.config = config
        self.due = due
        self.asked = False
        self.score: float | None = None
        """Of the last timestep; None before the first one, and while it is paused."""
        self.session = model.session(threshold=config.policy.threshold)
        try:
            self.session.remove(self.session.ask(config.text))
        except EdgeError:
            self.session.close()
            raise
        self._bundle = model.bundle
        self._zone_names = model.zone_names
        self.unknown_words: tuple[str, ...] = ()
        """What the model was not trained for; while there are any it is not watched for, see :meth:`ask`."""
        self._now = datetime.now if live else None
        self.policy = ResponsePolicy(config.policy, self._now)
        self._default_threshold = model.stream_format.threshold

    def ask(self) -> None:
        """Put it into force from the next timestep. One outside what the model knows is paused at once: it
        costs nothing, and who resumes it asks it anyway.
        """
        self.session.ask(self.config.text, id=self.id)
        self.asked = True
        self._check()

    def not_trained(self) -> str:
        """One sentence for a query with ``unknown_words``."""
        words = ", ".join(f'"{word}"' for word in self.unknown_words)
        return (
            f'"{self.config.text}": {self._bundle.name} was not trained for {words}, so it is not asked; '
            "edge-run questions shows what works, ask_anyway asks it nevertheless"
        )

    def _check(self) -> None:
        known = self._bundle.knowledge
        if known is None or self.config.ask_anyway:
            self.unknown_words = ()
        else:
            self.unknown_words = known.unknown_words(self.config.text, self._zone_names)
        if self.unknown_words:
            self.config = replace(self.config, paused=True)

    def configure(self, config: QueryConfig) -> None:
        """Go on under other settings; the text is the same."""
        if not self.asked:
            self.due = config.at
        self.set_policy(config.policy)
        if config.ask_anyway and not self.config.ask_anyway and self.unknown_words:
            config = replace(config, paused=False)
            self.unknown_words = ()
        if config.paused:
            self.score = None
        self.config = config

    def set_policy(self, settings: PolicySettings) -> None:
        """Change when responses go out, from the next timestep on. Any thread."""
        self.session.threshold = self._default_threshold if settings.threshold is None else settings.threshold
        self.policy.settings = settings
        self.config = replace(self.config, policy=settings)

    def reword(self, text: str) -> None:
        """Ask something else on the same session, which remembers the stream. Raises ConfigError when that
        cannot be asked: then the old text stays.
        """
        self.session.remove(self.id)  # first: a model may watch for one query at a time
        try:
            self.session.ask(text, id=self.id)
        except ConfigError:
            self.session.ask(self.config.text, id=self.id)
            raise
        resumed = replace(self.config, paused=False) if self.unknown_words else self.config
        self.config = replace(resumed, text=text)
        self._check()

    def reset(self) -> None:
        """Start again as for a new stream; the query stays asked."""
        self.session.reset(keep_queries=True)
        self.policy = ResponsePolicy(self.policy.settings, self._now)


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
            query.session.close()
