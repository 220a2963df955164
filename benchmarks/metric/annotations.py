"""Annotation and prediction files: JSON Lines, one question per line, read strictly and written whole.

A line that cannot be used raises :class:`FormatError`, which names the file, the line, the key and what was
expected; nothing is skipped. Unknown keys are kept (``extra``) and written back. Times are seconds from the
start of the video.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.metric.records import FormatError as FormatError
from benchmarks.metric.records import Item, parse_line, read_lines
from benchmarks.metric.tasks import TASKS
from edge_runtime.atomic_write import write_whole

Record = TypeVar("Record", "Annotation", "Prediction")


@dataclass(frozen=True)
class Query:
    """What the user asks, and when. ``extra``: unknown keys, here as in the classes below."""

    time: float
    text: str
    extra: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Answer:
    """A true answer with the times of its event; the task decides the best response time from them."""

    start: float
    end: float
    text: str
    extra: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Annotation:
    """One question. ``line`` and ``path`` say where it was read, so that an error can point at it."""

    id: str
    video: str
    duration: float
    task: str
    query: Query
    answers: tuple[Answer, ...]
    rubric: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    line: int = field(default=0, compare=False)
    path: Path = field(default=Path("annotations.jsonl"), compare=False)

    @property
    def video_path(self) -> Path:
        """The clip: relative to the annotation file unless absolute."""
        return self.path.parent / self.video

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of formats.md; an empty rubric is left out."""
        record: dict[str, Any] = {
            "id": self.id,
            "video": self.video,
            "duration": self.duration,
            "task": self.task,
            "query": {"time": self.query.time, "text": self.query.text, **self.query.extra},
            "answers": [{"start": a.start, "end": a.end, "text": a.text, **a.extra} for a in self.answers],
        }
        if self.rubric:
            record["rubric"] = list(self.rubric)
        return {**record, **self.extra}


@dataclass(frozen=True)
class Response:
    """What a model said; ``time`` is the end of the frame interval after which it spoke."""

    time: float
    text: str
    extra: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Prediction:
    """Everything a model said to one question. ``line`` and ``path``: where it was read."""

    id: str
    responses: tuple[Response, ...]
    line: int = field(default=0, compare=False)
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    path: Path = field(default=Path("predictions"), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of formats.md."""
        responses = [{"time": r.time, "text": r.text, **r.extra} for r in self.responses]
        return {"id": self.id, "responses": responses, **self.extra}


def read_annotations(path: str | Path) -> list[Annotation]:
    """All questions of a file, in its order. Raises FormatError."""
    return _read(Path(path), _annotation)


def read_predictions(path: str | Path) -> list[Prediction]:
    """All predictions of a file, in its order. Raises FormatError.

    A response with empty text is accepted: a model can say it, and it counts as a wrong response.
    """
    return _read(Path(path), _prediction)


def write_annotations(path: str | Path, annotations: Iterable[Annotation]) -> None:
    """Write a whole file or none. Raises SinkError."""
    write_whole(Path(path), (dump_line(annotation.to_dict()) for annotation in annotations))


def write_predictions(path: str | Path, predictions: Iterable[Prediction]) -> None:
    """Write a whole file or none. Raises SinkError."""
    write_whole(Path(path), (dump_line(prediction.to_dict()) for prediction in predictions))


def parse_annotation(text: str, path: str | Path, line: int) -> Annotation:
    """One line of an annotation file. Raises FormatError."""
    return _annotation(parse_line(text, Path(path), line))


def parse_prediction(text: str, path: str | Path, line: int) -> Prediction:
    """One line of a prediction file. Raises FormatError."""
    return _prediction(parse_line(text, Path(path), line))


def dump_line(record: dict[str, Any]) -> str:
    """One JSON line with its newline. Raises ValueError for NaN and infinity."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _read(path: Path, parse: Callable[[Item], Record]) -> list[Record]:
    records: list[Record] = []
    first_line: dict[str, int] = {}
    for line in read_lines(path):
        record = parse(line)
        if record.id in first_line:
            line.fail("id", f"a value of its own, {record.id!r} is that of line {first_line[record.id]} too")
        first_line[record.id] = line.place.number
        records.append(record)
    return records


def _annotation(line: Item) -> Annotation:
    task = line.text("task")
    if task not in TASKS:
        line.fail("task", f"one of {', '.join(TASKS)}, got {task!r}")
    query = line.child("query")
    return Annotation(
        id=line.text("id"),
        video=line.text("video"),
        duration=line.seconds("duration", positive=True),
        task=task,
        query=Query(query.seconds("time"), query.text("text"), query.others("time", "text")),
        answers=tuple(_answer(item) for item in line.items("answers")),
        rubric=tuple(item.value for item in line.items("rubric")) if "rubric" in line else (),
        extra=line.others("id", "video", "duration", "task", "query", "answers", "rubric"),
        line=line.place.number,
        path=line.place.path,
    )


def _answer(item: Item) -> Answer:
    start, end = item.seconds("start"), item.seconds("end")
    if end < start:
        item.fail("end", f"a time not before start ({start:g}), got {end:g}")
    return Answer(start, end, item.text("text"), item.others("start", "end", "text"))


def _prediction(line: Item) -> Prediction:
    return Prediction(
        id=line.text("id"),
        responses=tuple(
            Response(item.seconds("time"), item.text("text", empty=True), item.others("time", "text"))
            for item in line.items("responses")
        ),
        line=line.place.number,
        extra=line.others("id", "responses"),
        path=line.place.path,
    )
