"""Annotation and prediction files: JSON Lines, one question per line, read strictly and written whole.

A line that cannot be used raises :class:`FormatError`, which names the file, the line, the key and what was
expected; nothing is skipped. Unknown keys are kept (``extra``) and written back. Times are seconds from the
start of the video. Only a newline character ends a line: JSON strings may hold other line separators.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from benchmarks.streampro.tasks import TASKS
from edge_runtime.errors import EdgeError

Record = TypeVar("Record", "Annotation", "Prediction")


class FormatError(EdgeError):
    """A file that does not hold what its format says."""

    exit_code = 2


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
    """Write a whole file or none: to a temporary file beside it, then renamed."""
    _write(Path(path), (annotation.to_dict() for annotation in annotations))


def write_predictions(path: str | Path, predictions: Iterable[Prediction]) -> None:
    """Write a whole file or none: to a temporary file beside it, then renamed."""
    _write(Path(path), (prediction.to_dict() for prediction in predictions))


def parse_annotation(text: str, path: str | Path, line: int) -> Annotation:
    """One line of an annotation file. Raises FormatError."""
    return _annotation(_Line(Path(path), line, text))


def parse_prediction(text: str, path: str | Path, line: int) -> Prediction:
    """One line of a prediction file. Raises FormatError."""
    return _prediction(_Line(Path(path), line, text))


def dump_line(record: dict[str, Any]) -> str:
    """One JSON line with its newline. Raises ValueError for NaN and infinity."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _read(path: Path, parse: Callable[[_Line], Record]) -> list[Record]:
    records: list[Record] = []
    first_line: dict[str, int] = {}
    for number, text in _lines(path):
        line = _Line(path, number, text)
        record = parse(line)
        if record.id in first_line:
            line.fail("id", f"a value of its own, {record.id!r} is that of line {first_line[record.id]} too")
        first_line[record.id] = number
        records.append(record)
    return records


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    data = data.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n")
    for number, line in enumerate(data.split(b"\n") if data else [], start=1):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{path}, line {number}: expected UTF-8 text, byte {error.start + 1} is not"
            ) from error


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(dump_line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)


def _annotation(line: _Line) -> Annotation:
    task = line.text("task")
    if task not in TASKS:
        line.fail("task", f"one of {', '.join(TASKS)}, got {task!r}")
    query = line.child("query", line.take("query"))
    rubric = line.items("rubric") if "rubric" in line.rest else []
    return Annotation(
        id=line.text("id"),
        video=line.text("video"),
        duration=line.number("duration", positive=True),
        task=task,
        query=Query(query.number("time"), query.text("text"), query.rest),
        answers=tuple(_answer(item) for item in line.items("answers")),
        rubric=tuple(item.rest for item in rubric),
        extra=line.rest,
        line=line.line,
        path=line.path,
    )


def _answer(item: _Object) -> Answer:
    start, end = item.number("start"), item.number("end")
    if end < start:
        item.fail("end", f"a time not before start ({start:g}), got {end:g}")
    return Answer(start, end, item.text("text"), item.rest)


def _prediction(line: _Line) -> Prediction:
    return Prediction(
        id=line.text("id"),
        responses=tuple(
            Response(item.number("time"), item.text("text", empty=True), item.rest)
            for item in line.items("responses")
        ),
        line=line.line,
        extra=line.rest,
        path=line.path,
    )


class _Object:
    """A JSON object whose known keys are taken one by one; what stays in ``rest`` is unknown."""

    def __init__(self, path: Path, line: int, key: str, value: object) -> None:
        self.path, self.line, self.key = path, line, key
        self.rest: dict[str, Any] = {}
        if not isinstance(value, dict):
            self.fail("", f"an object, got {_name(value)}")
        self.rest = dict(value)

    def fail(self, key: str, expected: str) -> NoReturn:
        full = ".".join(part for part in (self.key, key) if part)
        where = f"{self.path}, line {self.line}" + (f", key {full!r}" if full else "")
        raise FormatError(f"{where}: expected {expected}")

    def take(self, key: str) -> object:
        if key not in self.rest:
            self.fail(key, "a value, the key is missing")
        return self.rest.pop(key)

    def child(self, key: str, value: object) -> _Object:
        return _Object(self.path, self.line, f"{self.key}.{key}" if self.key else key, value)

    def items(self, key: str) -> list[_Object]:
        value = self.take(key)
        if not isinstance(value, list):
            self.fail(key, f"a list of objects, got {_name(value)}")
        return [self.child(f"{key}[{index}]", item) for index, item in enumerate(value)]

    def text(self, key: str, *, empty: bool = False) -> str:
        value = self.take(key)
        if not isinstance(value, str):
            self.fail(key, f"text, got {_name(value)}")
        if not empty and not value.strip():
            self.fail(key, "text that is not empty")
        if any("\ud800" <= character <= "\udfff" for character in value):
            self.fail(key, "text without half a surrogate pair")
        return value

    def number(self, key: str, *, positive: bool = False) -> float:
        value = self.take(key)
        expected = "a positive number of seconds" if positive else "a number of seconds, 0 or more"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"{expected}, got {_name(value)}")
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if not math.isfinite(seconds) or seconds < 0 or (positive and seconds == 0):
            self.fail(key, f"{expected}, got {seconds:g}")
        return seconds


class _Line(_Object):
    """One line of a file: a JSON object without repeated keys, NaN or infinity."""

    def __init__(self, path: Path, line: int, text: str) -> None:
        try:
            value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            message = f"{path}, line {line}: expected one JSON object, got {_cause(error)}"
            raise FormatError(message) from error
        super().__init__(path, line, "", value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
    return value


def _cause(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "too deeply nested brackets"
    if isinstance(error, json.JSONDecodeError):
        if not error.doc.strip():
            return "an empty line"
        return f"an error at column {error.colno} ({error.msg})"
    return str(error)


def _name(value: object) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "a boolean"), (str, "text"), (list, "a list"), (dict, "an object")):
        if isinstance(value, kind):
            return name
    return "a number"
