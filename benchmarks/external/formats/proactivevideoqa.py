"""ProactiveVideoQA's ``anno.json`` (MMDuet2 uses it too), checked against public samples of its four tasks.

``{"video", "question_id", "conversation": [{"role": "user", "time", "content"}, ...], "answer": [{"role",
"content", "related_timespan": [s, e], "reply_timespan": [s, e]}, ...], "duration"}``. The event is
``related_timespan``; ``reply_timespan`` ends 1 s later, at the latest at the end of the video. The first
turn of the conversation is the question; further user turns (subtitles in TV) are kept. Records do not say
their task, which is the name of their folder: EU here unless --task says otherwise (AA suits VAD).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.external.formats.common import Record
from benchmarks.external.formats.notes import Notes
from benchmarks.external.records import read_records
from benchmarks.metric.records import Item

REPLY_AFTER_S = 1.0
"""How long after its event an answer may still be given."""


class ProactiveVideoQA:
    """Converter; see :class:`benchmarks.external.formats.common.Format`."""

    name = "proactivevideoqa"
    title = "ProactiveVideoQA"
    has_duration = True

    def read(self, path: Path, notes: Notes) -> Iterator[tuple[Item, int | None]]:
        for record in read_records(path):
            turns = record.array("conversation")
            if len(turns) > 1:
                notes.add(
                    "kept, but not part of the query: later turns of the conversation", record.place.short
                )
            yield record, None

    def decode(self, record: Item) -> Record:
        turns = record.items("conversation")
        if not turns or turns[0].text("role") != "user":
            record.fail("conversation", "a list that begins with the user's question")
        duration = record.seconds("duration")
        if duration == 0:
            record.fail("duration", "a positive number of seconds, got 0")
        return {
            "id": record.text("question_id"),
            "video": record.text("video"),
            "duration": duration,
            "task": "EU",
            "query": {"time": turns[0].seconds("time"), "text": turns[0].text("content")},
            "answers": [self._answer(answer) for answer in record.items("answer")],
        }

    def kind(self, record: Item) -> str:
        return ""

    def encode(self, annotation: Record) -> Record:
        query, end = annotation["query"], annotation["duration"]
        return {
            "video": annotation["video"],
            "question_id": annotation["id"],
            "conversation": [{"role": "user", "time": query["time"], "content": query["text"]}],
            "answer": [
                {
                    "role": "assistant",
                    "content": answer["text"],
                    "related_timespan": [answer["start"], answer["end"]],
                    "reply_timespan": [
                        answer["start"],
                        max(answer["end"], min(answer["end"] + REPLY_AFTER_S, end)),
                    ],
                }
                for answer in annotation["answers"]
            ],
            "duration": end,
        }

    def remarks(self, record: Record) -> Iterator[str]:
        yield from ()

    def merge(self, records: Iterable[tuple[Record, int | None]]) -> Iterator[Record]:
        return (record for record, _ in records)

    def _answer(self, answer: Item) -> Record:
        answer.span("reply_timespan")
        key = "related_timespan" if "related_timespan" in answer else "reply_timespan"
        start, end = answer.span(key)
        return {"start": start, "end": end, "text": answer.text("content")}
