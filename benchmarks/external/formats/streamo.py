"""Streamo-Instruct's raw annotations, as its repository documents them and its conversion script reads them.

``{"video_name", "video_path", "task_type", "source", "question": [{"content", "time"}], "response":
[{"content", "st_time", "end_time", "time"}]}``. Times are numbers or texts ("5", "5.0", "0:05"); time 5 is
the frame ``<4s-5s>``, which is our query or response time 5. A response with ``st_time`` and ``end_time``
is an event: the model stands by from the one to the other and responds in the second after it. One with
``time`` alone is said in that second; it becomes an event without length.

The other way, tasks whose best time is the event or its end (EU, TP, TG, EC, AC) become events, the others
(OU, AA, GP, RF) become responses at their best time. ``task_type`` is free text in Streamo; if it is not
one of our codes the record becomes EU unless --task or --task-map says otherwise. A record with several
questions is split: each response goes to the last question asked before it. One without a question gets
this project's wording of Streamo's default. Streamo's script leaves out responses without text or times;
so do we.

Checked against the repository's README, example file and script; the data set itself was not at hand, so
that its task types and any further keys are unknown (unknown keys are kept). Its other form, the finished
dialogue of ``<stream>`` turns, is not converted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.external.formats.common import Record
from benchmarks.external.formats.notes import Notes
from benchmarks.external.records import read_records
from benchmarks.metric.records import Item, kind_of
from benchmarks.metric.tasks import TASKS

AS_EVENTS = ("EU", "TP", "TG", "EC", "AC")
"""Tasks that are answered during or after their event; the others at one moment."""

DEFAULT_QUESTION = "Describe each significant event of the video when it is over."

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


class Streamo:
    """Converter; see :class:`benchmarks.external.formats.common.Format`."""

    name = "streamo"
    title = "Streamo-Instruct"
    has_duration = False

    def read(self, path: Path, notes: Notes) -> Iterator[tuple[Item, int | None]]:
        for number, record in enumerate(read_records(path), start=1):
            questions, responses = record.items("question"), record.items("response")
            if not questions:
                notes.add("no question, so Streamo's default one", record.place.short)
            if any(_event(response) is None for response in responses):
                notes.add("kept, but not an answer: responses without text or time", record.place.short)
            if len(questions) < 2:
                yield record, None
                continue
            notes.add("split into one annotation per question", record.place.short)
            asked = [_question(question)[0] for question in questions]
            shares: list[list[Any]] = [[] for _ in questions]
            for response in responses:
                event = _event(response)
                before = [n for n, time in enumerate(asked) if event is None or time <= event[0]]
                shares[before[-1] if before else 0].append(response.value)
            for question, share in zip(questions, shares, strict=True):
                value = {**record.value, "question": [question.value], "response": share}
                yield Item(record.place, "", value), number

    def decode(self, record: Item) -> Record:
        questions = record.items("question")
        time, text = _question(questions[0]) if questions else (0.0, DEFAULT_QUESTION)
        events = [event for event in map(_event, record.items("response")) if event]
        kind = self.kind(record)
        answers = [{"start": start, "end": end, "text": said} for start, end, said in events]
        return {
            "id": f"{record.text('video_path')}@{time:g}",
            "video": record.text("video_path"),
            "duration": 0.0,
            "task": kind if kind in TASKS else "EU",
            "query": {"time": time, "text": text},
            "answers": answers,
        }

    def kind(self, record: Item) -> str:
        return str(record.get("task_type", ""))

    def encode(self, annotation: Record) -> Record:
        query, task = annotation["query"], TASKS[annotation["task"]]
        responses: list[Record] = []
        for answer in annotation["answers"]:
            start, end = answer["start"], answer["end"]
            record: Record = {"content": answer["text"], "st_time": start, "end_time": end, "time": ""}
            if task.code not in AS_EVENTS or start == end:
                moment = max(task.best_time(start, end, query["time"])[0], query["time"])
                record |= {"st_time": "", "end_time": "", "time": _plain(moment)}
            responses.append(record)
        return {
            "video_name": PurePosixPath(annotation["video"]).name,
            "video_path": annotation["video"],
            "task_type": task.code,
            "question": [{"content": query["text"], "time": _plain(query["time"])}],
            "response": responses,
        }

    def remarks(self, record: Record) -> Iterator[str]:
        times = [question.get("time") for question in record["question"]]
        times += [
            response.get(key) for response in record["response"] for key in ("st_time", "end_time", "time")
        ]
        if any(time not in (None, "") and not _seconds(time).is_integer() for time in times):
            yield "times between seconds, which Streamo's own script cuts to whole ones"

    def merge(self, records: Iterable[tuple[Record, int | None]]) -> Iterator[Record]:
        for number, group in groupby(records, key=lambda pair: pair[1]):
            members = [record for record, _ in group]
            if number is None:
                yield from members
                continue
            joined = dict(members[0])
            joined["question"] = [question for member in members for question in member["question"]]
            joined["response"] = [response for member in members for response in member["response"]]
            yield joined


def _question(question: Item) -> tuple[float, str]:
    time = _time(question, "time")
    return (0.0 if time is None else time), question.text("content")


def _event(response: Item) -> tuple[float, float, str] | None:
    """Start, end and text; None for a response that Streamo's script leaves out too."""
    text = response.get("content", "")
    if not isinstance(text, str):
        response.fail("content", f"text, got {kind_of(text)}")
    start, end, moment = (_time(response, key) for key in ("st_time", "end_time", "time"))
    if start is None or end is None:
        start = end = moment
    if start is None or end is None or not text.strip():
        return None
    if end < start:
        response.fail("end_time", f"a time not before st_time ({start:g}), got {end:g}")
    return start, end, response.text("content")


def _time(item: Item, key: str) -> float | None:
    value = item.get(key, None)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        if not _CLOCK.fullmatch(value.strip()):
            item.fail(key, f'seconds, "MM:SS" or "HH:MM:SS", got {value!r}')
        return _seconds(value)
    return item.seconds(key)


def _seconds(value: Any) -> float:
    if not isinstance(value, str):
        return float(value)
    match = _CLOCK.fullmatch(value.strip())
    hours, minutes, seconds = match.groups() if match else (None, None, value)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)


def _plain(seconds: float) -> str:
    """A time as Streamo writes it: "5", or "5.25" between seconds."""
    return f"{Decimal(repr(float(seconds))).normalize():f}"
