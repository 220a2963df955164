"""The queries of one session: ids, numbers, thresholds, and which of them a generated text answers.

A number is given once in a session, because earlier turns hold answers that name it. Only a session that
starts anew gives them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.bundle.question_numbers import split_answers
from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.bundle.tokenizer import is_unicode
from edge_runtime.errors import ConfigError


@dataclass(frozen=True)
class SessionQuery:
    """A query in force; ``ids``: its tokens."""

    id: str
    text: str
    ids: tuple[int, ...]
    number: int


class SessionQueries:
    """``slots``: of the cache, for all queries together. ``most``: queries in a session, None for no limit.

    ``bundle``: its name, for messages.
    """

    def __init__(self, encoder: TurnEncoder, slots: int, most: int | None, bundle: str) -> None:
        self._encoder, self._slots, self._most, self._bundle = encoder, slots, most, bundle
        self._numbered = encoder.stream_format.numbers_queries
        self.active: dict[str, SessionQuery] = {}
        self.queued: list[SessionQuery] = []
        """Active queries that are not in the cache yet."""
        self._thresholds: dict[str, float] = {}  # of queries that have one of their own
        self._numbers = 0  # given so far
        self._asked = 0

    def ask(self, text: str, id: str | None) -> str:
        """Returns the query's id. Raises ConfigError, see :meth:`StreamSession.ask
        <edge_runtime.engine.session.StreamSession.ask>`.
        """
        if id in self.active:
            raise ConfigError(f"query {id}: the id is in use; remove that query first or choose another id")
        ids = self.check(text)
        if id is None:
            self._asked += 1
            while f"q{self._asked}" in self.active:
                self._asked += 1
            id = f"q{self._asked}"
        self._numbers += 1
        query = self.active[id] = SessionQuery(id, text, ids, self._numbers)
        self.queued.append(query)
        return id

    def check(self, text: str, beside: tuple[str, ...] = ()) -> tuple[int, ...]:
        """Token ids of a query that may be asked now. Raises ConfigError when it may not.

        ``beside``: texts of queries that are yet to be asked, too.
        """
        if not text.strip():
            raise ConfigError("query: the text is empty; say what to watch for")
        if not is_unicode(text):
            raise ConfigError("query: the text is not UTF-8; write it in UTF-8")
        most, active = self._most, len(self.active)
        if most is not None and len(beside) + (self._numbers if self._numbered else active) >= most:
            apart = "per question" if most == 1 else f"for each {most} questions"
            remedy = "" if self._numbered else ", or remove a query first"
            raise ConfigError(
                f"query: {self._bundle} was trained with {most} at a time and has {active} "
                f"({', '.join(self.active)}); open one session {apart} (model.session()){remedy}"
            )
        ids = self._ids(text, self._numbers + len(beside) + 1)
        others = [query.ids for query in self.active.values()] + [self._ids(other, 1) for other in beside]
        free = self._slots - sum(map(len, others))
        if len(ids) > free:
            among = f" beside {len(others)} active queries" if others else ""
            raise ConfigError(
                f"query: {len(ids)} tokens, but at most {free} fit{among}; shorten it or remove a query"
            )
        return ids

    def is_cached(self, id: str) -> bool:
        """Whether an active query is in the cache. Raises ConfigError for an unknown id."""
        if id not in self.active:
            known = ", ".join(self.active) or "none"
            raise ConfigError(f"query {id}: no such query is active (active: {known})")
        return not any(query.id == id for query in self.queued)

    def forget(self, id: str) -> None:
        """Let go of an active query."""
        self.queued = [query for query in self.queued if query.id != id]
        del self.active[id]
        self._thresholds.pop(id, None)

    def restart(self, *, keep: bool) -> None:
        """As for a new session, in which the active queries are asked anew if ``keep``."""
        kept = [(query.id, query.text) for query in self.active.values()] if keep else []
        self.active = {
            id: SessionQuery(id, text, self._ids(text, number), number)
            for number, (id, text) in enumerate(kept, start=1)
        }
        self.queued = list(self.active.values())
        self._numbers = len(kept)
        if not keep:
            self._asked = 0
            self._thresholds = {}

    def set_threshold(self, id: str, value: float | None) -> None:
        """One query's own threshold, None for that of the session. Any thread."""
        if value is None:
            self._thresholds.pop(id, None)
        else:
            self._thresholds[id] = value

    def thresholds(self, default: float) -> dict[str, float]:
        """Of every active query. Any thread: the copy is made before anything is looked up."""
        return {id: self._thresholds.get(id, default) for id in list(self.active)}

    @property
    def last(self) -> str | None:
        """Id of the query asked last; None without any."""
        return next(reversed(self.active), None)

    def attributed(self, text: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """What ``text`` says to which query, by id, and its lines that name no active one."""
        if not self._numbered:
            return {id: text for id in [self.last] if id is not None}, ()
        ids = {query.number: query.id for query in self.active.values()}
        found = split_answers(text, ids.keys())
        return {ids[number]: words for number, words in found.texts.items()}, found.unattributed

    def _ids(self, text: str, number: int) -> tuple[int, ...]:
        return tuple(self._encoder.query_ids(text, number))


def checked_threshold(value: float) -> float:
    """Return a threshold that can be. Raises ConfigError."""
    if not 0.0 <= value <= 1.0:  # NaN is refused as well
        raise ConfigError(f"threshold {value}: must lie in 0..1")
    return float(value)
