"""One question put to one stream: its session, its policy, and how it changes while the stream runs.

The cache of a session is only ever appended to, so a question is never edited: another text is another
question with a new session. That one remembers nothing from before, as at the start of a stream. A question
whose text stays keeps session, memory and policy history, whatever else about it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from edge_runtime.config.schema import QueryConfig
from edge_runtime.engine.model import Model
from edge_runtime.engine.session import StreamSession
from edge_runtime.errors import EdgeError
from edge_runtime.events.policy import ResponsePolicy


@dataclass(eq=False)
class Question:
    """A question that is being watched, or will be from ``due`` seconds of the stream."""

    id: str
    ask: QueryConfig
    session: StreamSession
    policy: ResponsePolicy
    due: float
    asked: bool = False

    def adopt(self, ask: QueryConfig, model: Model) -> None:
        """Go on under other settings; the text is the same."""
        self.ask = ask
        self.policy.settings = ask.policy
        threshold = ask.policy.threshold
        self.session.threshold = model.stream_format.threshold if threshold is None else threshold
        if not self.asked:
            self.due = ask.at


@dataclass(frozen=True)
class Revision:
    """Questions made ready to take the place of others; see
    :meth:`edge_runtime.engine.decision_loop.Runner.revise`."""

    questions: tuple[Question, ...]
    """All that will be watched, in order, kept and new."""
    queries: tuple[QueryConfig, ...]
    """What each of them will be like."""
    added: tuple[Question, ...]
    removed: tuple[Question, ...]

    def discard(self) -> None:
        """Free what was made ready: it will not be used."""
        for question in self.added:
            question.session.close()


def open_question(
    model: Model, id: str, ask: QueryConfig, *, live: bool, due: float | None = None
) -> Question:
    """A question with a session of its own. Raises EdgeError when it cannot be asked: now, not when due."""
    session = model.session(threshold=ask.policy.threshold)
    try:
        session.remove(session.ask(ask.text))
    except EdgeError:
        session.close()
        raise
    policy = ResponsePolicy(ask.policy, datetime.now if live else None)
    return Question(id, ask, session, policy, ask.at if due is None else due)


def match(
    questions: Iterable[Question], queries: Sequence[QueryConfig]
) -> tuple[list[Question | None], list[Question]]:
    """For each ask the question that has its text already, or None; and the questions that are left over."""
    left = list(questions)
    found: list[Question | None] = []
    for ask in queries:
        question = next((one for one in left if one.ask.text == ask.text), None)
        if question is not None:
            left.remove(question)
        found.append(question)
    return found, left
