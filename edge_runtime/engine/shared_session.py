"""Which queries of a stream share a session, as far as the bundle allows.

A bundle states how many queries one session may have (``queries_per_session``). With one, each query has a
session of its own. With more, a query takes a place in the first session that has one left and room for its
text, else in a new session:

- A place is a number that the session has not given yet. A query that is asked while the stream runs joins in
  the same way; it then knows what the session has seen.
- A query that is withdrawn is ignored from the next timestep. Its number stays used, because earlier turns
  hold answers with it. A session without any query is closed, and when a stream starts anew its numbers are
  given anew.
- So a session whose queries have changed often has few left; the next query opens another one. That costs a
  cache and a decoder pass per timestep, and is never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_runtime.engine.stream_model import StreamModel, WatchSession
from edge_runtime.errors import ConfigError, EdgeError


class SharedSession:
    """One session and the queries that have a place in it, by id."""

    def __init__(self, model: StreamModel) -> None:
        self.session: WatchSession = model.session()
        self._waiting: dict[str, str] = {}  # id to text of queries that are not asked yet
        self._places: set[str] = set()
        self.grouped = model.stream_format.numbers_queries

    @classmethod
    def with_place(
        cls,
        model: StreamModel,
        id: str,
        text: str,
        threshold: float | None,
        open_ones: Iterable[SharedSession],
    ) -> SharedSession:
        """A session in which the query has a place now, to be asked later. EdgeError if it cannot be."""
        if model.stream_format.numbers_queries:
            for shared in open_ones:
                try:
                    shared.take_place(id, text, threshold)
                    return shared
                except ConfigError:
                    continue  # no number or no room left; a new session says what is wrong with the text
        shared = cls(model)
        try:
            shared.take_place(id, text, threshold)
        except EdgeError:
            shared.session.close()
            raise
        return shared

    def take_place(self, id: str, text: str, threshold: float | None) -> None:
        """Raises ConfigError when there is none, or the text cannot be asked."""
        self.session.check(text, tuple(self._waiting.values()))
        self.session.set_threshold(id, threshold)
        self._waiting[id] = text
        self._places.add(id)

    def ask(self, id: str) -> None:
        """Put a query that has a place into force from the next timestep."""
        self.session.ask(self._waiting.pop(id), id=id)

    def replace(self, id: str, text: str, threshold: float | None) -> None:
        """Ask ``text`` in place of a query in force. Raises ConfigError when it cannot be asked here: then
        the old one stays.
        """
        before = self.session.queries[id]
        if self.grouped:  # under a number of its own, so both must fit for a moment
            self.session.check(text, tuple(self._waiting.values()))
        self.session.remove(id)
        try:
            self.session.ask(text, id=id)
        except ConfigError:
            self.session.ask(before, id=id)
            raise
        finally:
            self.session.set_threshold(id, threshold)

    def leave(self, id: str) -> None:
        """Withdraw a query from the next timestep on; the session is closed with its last one."""
        self._places.discard(id)
        if self._waiting.pop(id, None) is None and id in self.session.queries:
            self.session.remove(id)
        else:
            self.session.set_threshold(id, None)
        if not self._places:
            self.session.close()
