"""What a model said, with times: this project's predictions, or the answers of MMDuet and MMDuet2.

Ours (JSON Lines): ``{"id": ..., "responses": [{"time", "text"}]}``. MMDuet's (JSON Lines, written by
``test/inference.py`` of MMDuet and ``proactive_eval/inference.py`` of MMDuet2):
``{"question_id": ..., "model_response_list": [{"role", "content", "time"}, ...]}``, where turns of the role
"user" are there for people to read and the content "NO REPLY" is silence. The first record shows which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.external.records import read_records
from benchmarks.metric.annotations import FormatError, read_predictions
from benchmarks.metric.records import Item

SILENCE = "NO REPLY"
"""What MMDuet2 says when it says nothing."""


@dataclass(frozen=True)
class Reply:
    """Something said: ``time`` in seconds of the video, ``text`` as it came."""

    time: float
    text: str


Replies = dict[str, tuple[Reply, ...]]
"""Replies by the id of their question, in the order of time."""


def read_replies(path: Path) -> Replies:
    """All replies of a file. Raises FormatError."""
    records = read_records(path)
    if not records or "question_id" not in records[0]:
        predictions = read_predictions(path)
        return {p.id: _in_time(Reply(r.time, r.text) for r in p.responses) for p in predictions}
    replies: Replies = {}
    for record in records:
        name = record.text("question_id")
        if name in replies:
            record.fail("question_id", f"a value of its own, {name!r} came before")
        replies[name] = _in_time(_turns(record))
    return replies


def check_known(replies: Iterable[str], known: Iterable[str], path: Path) -> None:
    """Raise FormatError for a reply to a question that is not annotated."""
    unknown = sorted(set(replies) - set(known))
    if unknown:
        raise FormatError(f"{path}: expected ids of annotated questions, got {unknown[0]!r}")


def missing(replies: Mapping[str, object], known: Iterable[str]) -> list[str]:
    """Questions that the predictions do not mention, in the order of ``known``."""
    return [name for name in known if name not in replies]


def _turns(record: Item) -> Iterable[Reply]:
    for turn in record.items("model_response_list"):
        if turn.text("role") == "assistant":
            text = turn.text("content", empty=True)
            if text.strip() != SILENCE:
                yield Reply(turn.seconds("time"), text)


def _in_time(replies: Iterable[Reply]) -> tuple[Reply, ...]:
    return tuple(sorted(replies, key=lambda reply: reply.time))
