"""StreamingBench proactive output: was the moment within 2 s of the right one, and the answer right?

A question like 'When ..., output "X"' is polled every second from the second after it was asked until 4 s
after the true moment: "is it the right time?" The first "yes" is the model's moment, and its next answer
its output. The project's ``src/data/count.py`` counts two things, both shown here: *time* (the last entry
of the dialogue is at most 2 s from the true moment) and *answer* (time is right, and the output holds the
true text). Its first version counted time alone, and many published numbers do not say which they are. A
model that never says yes ends 4 s late, hence wrong. Unlike count.py, questions without a result count as
never answered.

Formats: annotations are ``questions_proactive.json`` (read from public samples) or
``Proactive_Output.csv`` (the columns as in a public change of the dataset; the file itself was not at
hand). Predictions are the JSON of the questions with the model's entry in each question, ``{"answered",
"dialog_history": [{"role", "content", "time", ...}]}`` (as written by
``src/benchmark/StreamingBenchProactive.py``), or replies as in :mod:`benchmarks.external.replies`, of which
the first after the question counts. Ids of questions: ``question_id`` of the CSV, else the video's path,
"@" and the time stamp, which :mod:`benchmarks.external.formats` uses too.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.external.formats.changes import OURS, changed_value
from benchmarks.external.records import read_records, read_text
from benchmarks.external.replies import Reply, check_known, missing, read_replies
from benchmarks.external.table import MetricReport, Scores, mean, missing_note
from benchmarks.metric.annotations import FormatError
from benchmarks.metric.baselines import TIMER_S
from benchmarks.metric.records import Item, Place
from benchmarks.metric.tasks import SLACK_S
from edge_runtime.errors import ConfigError

TOLERANCE_S = 2.0
"""A response further from the true moment than this is wrong."""

POLL_AFTER_S = 4.0
"""Polling ends this long after the true moment."""

CSV_COLUMNS = ("question_id", "question", "time_stamp", "ground_truth_time_stamp", "ground_truth_output")

Given = Mapping[str, Reply | None]
"""The model's only output to each question; None when it gave none."""


@dataclass(frozen=True)
class Question:
    """One question; times in seconds. ``results``: what models said, by their name, in a results file."""

    id: str
    text: str
    asked: float
    true_time: float
    output: str
    results: Mapping[str, Item]


def parse_stamp(item: Item, key: str) -> float:
    """Seconds of "HH:MM:SS", "MM:SS" or "SS". Raises FormatError."""
    text = item.text(key)
    if not re.fullmatch(r"\d+(:\d+){0,2}", text.strip()):
        item.fail(key, f'a time stamp such as "00:10:25", got {text!r}')
    return float(sum(int(part) * 60**n for n, part in enumerate(reversed(text.strip().split(":")))))


def question_id(question: Item, video_path: str) -> str:
    """Name of a question, unless its video has another one asked at the same time: see :class:`Names`."""
    if "question_id" in question:
        return question.text("question_id")
    return f"{video_path}@{question.text('time_stamp')}"


class Names:
    """Makes names different: the second of a kind gets "#2" at its end, the third "#3"."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def unique(self, name: str) -> str:
        """``name``, or ``name`` with a number when it was given before."""
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}#{self._seen[name]}"


def read_rows(path: Path) -> list[Item]:
    """``Proactive_Output.csv`` as items, one per row. Raises FormatError."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    rows = []
    for number, row in enumerate(reader, start=1):
        item = Item(Place(path, "record", number), "", {k: v for k, v in row.items() if k and v is not None})
        for column in CSV_COLUMNS:
            item.text(column)
        rows.append(item)
    return rows


def read_questions(path: Path) -> list[Question]:
    """Questions of a JSON or CSV file. Raises FormatError."""
    names = Names()
    if path.suffix.lower() == ".csv":
        questions = [_question(row, names.unique(row.text("question_id"))) for row in read_rows(path)]
    else:
        questions = [
            _question(question, _kept_id(subset) or name)
            for subset in read_records(path)
            for question in subset.items("questions")
            for name in [names.unique(question_id(question, subset.text("video_path")))]
        ]
    if not questions:
        raise FormatError(f"{path}: expected at least one question, got none")
    return questions


def read_results(path: Path, model: str | None, known: Sequence[Question]) -> Given:
    """The outputs in a results file or in a file of replies. Raises FormatError, ConfigError."""
    if not _is_results(path):
        replies = read_replies(path)
        check_known(replies, [q.id for q in known], path)
        asked = {q.id: q.asked for q in known}
        return {
            name: next((reply for reply in said if reply.time >= asked[name]), None)
            for name, said in replies.items()
        }
    questions = read_questions(path)
    model = model or _only_model(questions, path)
    check_known([q.id for q in questions], [q.id for q in known], path)
    results = {q.id: _output(q.results[model]) for q in questions if model in q.results}
    if not results:
        raise ConfigError(f"{path}: has no results of {model!r}; choose another --model")
    return results


def score(annotations: Path, predictions: Path, model: str | None = None) -> MetricReport:
    """Time and answer accuracy of a file of results, with baselines. Raises FormatError, ConfigError."""
    questions = read_questions(annotations)
    given = read_results(predictions, model, questions)
    return MetricReport(
        metric=f"StreamingBench proactive output (moment within {TOLERANCE_S:g} s)",
        columns={"time": "points", "time and answer": "points"},
        predictions=_scores(questions, given),
        baselines={name: _scores(questions, said) for name, said in _baselines(questions)},
        notes=(
            f"{len(questions)} questions; answer: the output holds the true text, case counts",
            "baselines say the text that the question asks for, else the most frequent true text",
            *missing_note(missing(given, [q.id for q in questions]), len(questions)),
        ),
        items=tuple(_items(questions, given)),
    )


def _question(item: Item, name: str) -> Question:
    return Question(
        id=name,
        text=item.text("question"),
        asked=parse_stamp(item, "time_stamp"),
        true_time=parse_stamp(item, "ground_truth_time_stamp"),
        output=item.text("ground_truth_output"),
        results={
            key: item.child(key)
            for key, value in item.value.items()
            if isinstance(value, dict) and "dialog_history" in value
        },
    )


def _kept_id(subset: Item) -> str | None:
    """The id of the annotation that our converter wrote this from, if it did."""
    kept = changed_value(subset.value.get(OURS), ["id"])
    return kept if isinstance(kept, str) else None


def _is_results(path: Path) -> bool:
    if path.suffix.lower() == ".csv":
        raise FormatError(f"{path}: expected results as JSON or replies as JSON Lines, got a CSV file")
    records = read_records(path)
    return bool(records) and "questions" in records[0]


def _only_model(questions: Iterable[Question], path: Path) -> str:
    models = sorted({name for question in questions for name in question.results})
    if len(models) != 1:
        found = f"results of {', '.join(models)}" if models else "no results"
        raise ConfigError(f"{path}: has {found}; choose one model with --model")
    return models[0]


def _output(result: Item) -> Reply | None:
    history = result.items("dialog_history")
    if not history:
        return None
    return Reply(history[-1].seconds("time"), history[-1].text("content", empty=True))


def _right(question: Question, reply: Reply | None) -> tuple[bool, bool]:
    in_time = reply is not None and abs(reply.time - question.true_time) <= TOLERANCE_S + SLACK_S
    return in_time, in_time and reply is not None and question.output in reply.text


def _scores(questions: Sequence[Question], given: Given) -> Scores:
    rights = [_right(question, given.get(question.id)) for question in questions]
    return {"time": mean(r[0] for r in rights), "time and answer": mean(r[1] for r in rights)}


def _items(questions: Sequence[Question], given: Given) -> Iterator[dict[str, Any]]:
    for question in questions:
        reply = given.get(question.id)
        time, answer = _right(question, reply)
        yield {"id": question.id, "said_at": reply.time if reply else None, "time": time, "answer": answer}


def _baselines(questions: Sequence[Question]) -> Iterator[tuple[str, Given]]:
    counts = Counter(question.output for question in questions)
    frequent = min(counts, key=lambda text: (-counts[text], text), default="")
    times: dict[str, Callable[[Question], float | None]] = {
        "always silent": lambda q: None,
        "constant, at once": lambda q: q.asked + 1,
        f"blind timer, {TIMER_S:g} s": lambda q: q.asked + TIMER_S,
    }
    for name, when in times.items():
        said = {q.id: (when(q), _asked_for(q.text) or frequent) for q in questions}
        yield name, {i: Reply(time, text) if time is not None else None for i, (time, text) in said.items()}


def _asked_for(question: str) -> str:
    """The text in the last quotation marks of a question: what it says to output."""
    quoted = re.findall(r'"([^"]+)"|\'([^\']+)\'(?!\w)', question)
    return "".join(quoted[-1]).strip() if quoted else ""
