"""OVO-Bench's ``ovo_bench_new.json``: its three forward tasks, checked against a public sample and its code.

| OVO-Bench | ours |
|---|---|
| CRR: ``question``, ``answer``, ``ask_time``, ``clue_time`` | TP asked then, one answer at the clue |
| SSR: ``tutorial``, ``all_steps``, ``start_time``, ``end_time`` (lists) | EU asked at 0, an answer per step |
| REC: ``activity``, ``start_times``, ``end_times`` (lists) | OU asked at 0, the count at each end |

Which of our tasks they become is this project's choice; the StreamPro paper does not say how it scores
them. The other nine tasks of the file ask about the past or the present, so they are dropped and counted.

The other way, an annotation with one answer becomes CRR (clue at its first best time), one of the task EU
with more answers SSR, and one that counts "1", "2", ... in our wording REC; anything else has no form
there. Their probes follow the file's pattern as far as it shows in the sample: CRR is asked at the
question, halfway to the clue, and 2, 10 and 30 s after it; a step of SSR 2 and 5 s after its start and at
its end, and from the second on also 5 and 2 s before its start. For REC the pattern is not known: 2 s
after each end, here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.external.formats.common import Record, Unfit
from benchmarks.external.formats.notes import Notes
from benchmarks.external.ovo_forward import TASKS as FORWARD
from benchmarks.external.records import read_records
from benchmarks.metric.records import Item, kind_of
from benchmarks.metric.tasks import TASKS

_STEPS = ("Tell me each step of ", " while it is done.")
_COUNT = ("Count aloud how many times they ", ", each time it is done.")


class OVOBench:
    """Converter; see :class:`benchmarks.external.formats.common.Format`."""

    name = "ovo-bench"
    title = "OVO-Bench"
    has_duration = False

    def read(self, path: Path, notes: Notes) -> Iterator[tuple[Item, int | None]]:
        for record in read_records(path):
            task = record.text("task")
            if task in FORWARD:
                yield record, None
            else:
                notes.add(f"dropped, not a forward task: {task}", record.place.short)

    def decode(self, record: Item) -> Record:
        task = record.text("task")
        query, answers = {"CRR": _clue, "SSR": _steps, "REC": _counts}[task](record)
        return {
            "id": _id(record),
            "video": record.text("video"),
            "duration": 0.0,
            "task": {"CRR": "TP", "SSR": "EU", "REC": "OU"}[task],
            "query": query,
            "answers": answers,
        }

    def kind(self, record: Item) -> str:
        return record.text("task")

    def encode(self, annotation: Record) -> Record:
        answers, text = annotation["answers"], annotation["query"]["text"]
        name = annotation["id"]
        record = {"id": int(name) if re.fullmatch(r"0|[1-9]\d{0,17}", name) else name}
        texts = [answer["text"] for answer in answers]
        spans = [(answer["start"], answer["end"]) for answer in answers]
        counted = bool(texts) and texts == [str(n) for n in range(1, len(texts) + 1)]
        activity = _between(text, _COUNT)
        if counted and annotation["task"] == "OU" and activity is not None:
            return record | _rec(annotation, activity, spans)
        if len(answers) == 1 and not (annotation["task"] == "EU" and _between(text, _STEPS) is not None):
            return record | _crr(annotation)
        if answers and annotation["task"] == "EU":
            tutorial = _between(text, _STEPS)
            return record | _ssr(annotation, text if tutorial is None else tutorial, texts, spans)
        raise Unfit("no answer" if not answers else "several answers of another task than EU")

    def remarks(self, record: Record) -> Iterator[str]:
        if record["task"] == "SSR" and "query" in {change["at"][0] for change in record.get("streampro", [])}:
            yield "SSR has no question of its own and no time of asking"

    def merge(self, records: Iterable[tuple[Record, int | None]]) -> Iterator[Record]:
        return (record for record, _ in records)


def _clue(record: Item) -> tuple[Record, list[Record]]:
    clue = record.seconds("clue_time")
    query = {"time": record.seconds("ask_time"), "text": record.text("question")}
    return query, [{"start": clue, "end": clue, "text": record.text("answer")}]


def _steps(record: Item) -> tuple[Record, list[Record]]:
    texts = record.texts("all_steps")
    answers = [
        {"start": start, "end": end, "text": text}
        for text, (start, end) in zip(
            texts, _spans(record, "start_time", "end_time", len(texts)), strict=True
        )
    ]
    return {"time": 0.0, "text": record.text("tutorial").join(_STEPS)}, answers


def _counts(record: Item) -> tuple[Record, list[Record]]:
    spans = _spans(record, "start_times", "end_times", None)
    answers = [{"start": end, "end": end, "text": str(n)} for n, (_, end) in enumerate(spans, start=1)]
    return {"time": 0.0, "text": record.text("activity").join(_COUNT)}, answers


def _spans(record: Item, first: str, second: str, count: int | None) -> list[tuple[float, float]]:
    starts, ends = record.times(first), record.times(second)
    count = len(starts) if count is None else count
    for key, values in ((first, starts), (second, ends)):
        if len(values) != count:
            record.fail(key, f"a list of {count} times, got one of {len(values)}")
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end < start:
            record.fail(f"{second}[{index}]", f"a time not before {first}[{index}] ({start:g}), got {end:g}")
    return list(zip(starts, ends, strict=True))


def _crr(annotation: Record) -> Record:
    query, answer = annotation["query"], annotation["answers"][0]
    asked = query["time"]
    clue = TASKS[annotation["task"]].best_time(answer["start"], answer["end"], asked)[0]
    clue = max(clue, 0.0)
    probes = [(asked, 0), ((asked + clue) / 2, 0), (clue + 2, 1), (clue + 10, 1), (clue + 30, 1)]
    return {
        "task": "CRR",
        "video": annotation["video"],
        "question": query["text"],
        "answer": answer["text"],
        "ask_time": asked,
        "clue_time": clue,
        "test_info": [{"realtime": time, "type": kind} for time, kind in probes],
    }


def _ssr(annotation: Record, tutorial: str, texts: list[str], spans: list[tuple[float, float]]) -> Record:
    probes: list[dict[str, Any]] = []
    for index, (text, (start, end)) in enumerate(zip(texts, spans, strict=True)):
        before = [time for time in (start - 5, start - 2) if time >= 0 and index]
        during = [*(time for time in (start + 2, start + 5) if time < end), end]
        probes += [{"realtime": time, "step": text, "type": 0} for time in before]
        probes += [{"realtime": time, "step": text, "type": 1} for time in during]
    return {
        "task": "SSR",
        "video": annotation["video"],
        "tutorial": tutorial,
        "all_steps": texts,
        "start_time": [start for start, _ in spans],
        "end_time": [end for _, end in spans],
        "test_info": probes,
    }


def _rec(annotation: Record, activity: str, spans: list[tuple[float, float]]) -> Record:
    ends = [end for _, end in spans]
    return {
        "task": "REC",
        "video": annotation["video"],
        "activity": activity,
        "start_times": [start for start, _ in spans],
        "end_times": ends,
        "test_info": [{"realtime": end + 2, "count": sum(e <= end + 2 for e in ends)} for end in ends],
    }


def _between(text: str, ends: tuple[str, str]) -> str | None:
    """What ``ends`` were put around, or None."""
    middle = text.removeprefix(ends[0]).removesuffix(ends[1])
    return middle if middle.strip() and middle.join(ends) == text else None


def _id(record: Item) -> str:
    value = record.get("id")
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        record.fail("id", f"a whole number or text, got {kind_of(value)}")
    return str(value)
