"""OVO-Bench forward active responding: accuracy of polled probes, as the project's own scorer counts it.

This is *not* StreamPro-F1 on OVO-Bench, which the StreamPro paper reports under the same benchmark's name:
here a model is asked anew at given moments (probes) and never chooses when to speak. Tasks:

- REC (repetition event count): all digits of the reply, joined, must be the count so far.
- SSR (sequential steps recognition) and CRR (clues reveal responding): the reply must hold "Yes" where the
  probe's ``type`` is 1 and "No" where it is 0 (case counts; or be just "Y" or "N").

Shipped scorer: a task is the mean over its probes, Forward the mean of the tasks present. The paper's
appendix first averages each question's probes; that is shown beside it, as "by question". No reply (null)
is wrong. A reply that is a list of one text is read as that text, which the shipped scorer trips over.

Formats, checked against the project's ``utils/OVOBench.py``, ``utils/OVOBenchScore.py`` and a public
sample of ``ovo_bench_new.json``: annotations are an array of records of all twelve tasks (only these three
are used); predictions are the results file, ``{"backward": [...], "realtime": [...], "forward": [...]}``
or the array under "forward", records being the annotation's with ``response`` in each entry of
``test_info``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.external.records import read_records
from benchmarks.external.replies import check_known, missing
from benchmarks.external.table import MetricReport, Scores, mean, missing_note
from benchmarks.metric.annotations import FormatError
from benchmarks.metric.baselines import TIMER_S
from benchmarks.metric.records import Item, kind_of

TASKS = ("REC", "SSR", "CRR")

Answers = Mapping[str, Sequence[str | None]]
"""Reply to each probe of each question; None for no reply."""


@dataclass(frozen=True)
class Probe:
    """The model is asked at ``time`` (s); ``expected``: the count (REC), or 1 for "Yes" and 0 for "No".

    ``asked`` is when the same thing was asked first: the baseline that only knows the clock starts there.
    """

    time: float
    expected: int
    asked: float


@dataclass(frozen=True)
class Question:
    """A record of one of TASKS."""

    id: str
    task: str
    probes: tuple[Probe, ...]


def is_right(task: str, expected: int, reply: str | None) -> bool:
    """One probe, by the shipped rule."""
    if reply is None:
        return False
    if task == "REC":
        return "".join(re.findall(r"\d+", reply)) == str(expected)
    return reply == "NY"[expected] or ("No", "Yes")[expected] in reply


def read_questions(path: Path) -> list[Question]:
    """The forward questions of an annotation file. Raises FormatError."""
    questions = [_question(record) for record in read_records(path) if record.text("task") in TASKS]
    if not questions:
        raise FormatError(f"{path}: expected at least one record of the tasks {', '.join(TASKS)}, got none")
    return questions


def read_answers(path: Path, questions: Sequence[Question]) -> Answers:
    """Replies of a results file. Raises FormatError."""
    records = read_records(path)
    if len(records) == 1 and "forward" in records[0]:
        records = records[0].items("forward")
    expected = {question.id: question for question in questions}
    answers: dict[str, list[str | None]] = {}
    for record in records:
        if "task" in record and record.text("task") not in TASKS:
            continue
        name = _id(record)
        check_known([name], expected, path)
        if name in answers:
            record.fail("id", f"a value of its own, {name} came before")
        probes = record.items("test_info")
        if len(probes) != len(expected[name].probes):
            record.fail("test_info", f"{len(expected[name].probes)} probes as annotated, got {len(probes)}")
        answers[name] = [_reply(probe) for probe in probes]
    return answers


def score(annotations: Path, predictions: Path) -> MetricReport:
    """Shipped score of a results file, with baselines. Raises FormatError."""
    questions = read_questions(annotations)
    answers = read_answers(predictions, questions)
    probes = sum(len(question.probes) for question in questions)
    counts = (f"{task} {sum(len(q.probes) for q in questions if q.task == task)}" for task in TASKS)
    return MetricReport(
        metric="OVO-Bench forward, shipped protocol (accuracy of polled probes; not StreamPro-F1)",
        columns=dict.fromkeys((*TASKS, "Forward", "Forward by question"), "points"),
        predictions=_scores(questions, answers),
        baselines={name: _scores(questions, said) for name, said in _baselines(questions)},
        notes=(
            f"{probes} probes ({', '.join(counts)}) of {len(questions)} questions",
            "Forward: mean of the tasks present, each of its probes (by question: of its questions)",
            f"blind timer: Yes from {TIMER_S:g} s after ask_time or a step's first probe; REC: adds one",
            *missing_note(missing(answers, [q.id for q in questions]), len(questions)),
        ),
        items=tuple(_items(questions, answers)),
    )


def _question(record: Item) -> Question:
    task = record.text("task")
    key = "count" if task == "REC" else "type"
    probes: list[Probe] = []
    first: dict[str, float] = {}
    for info in record.items("test_info"):
        time, expected = info.seconds("realtime"), info.integer(key)
        if task != "REC" and expected > 1:
            info.fail(key, f"0 or 1, got {expected}")
        same = info.text("step") if task == "SSR" else ""
        asked = record.seconds("ask_time") if task == "CRR" else first.setdefault(same, time)
        probes.append(Probe(time, expected, asked))
    return Question(_id(record), task, tuple(probes))


def _id(record: Item) -> str:
    value = record.get("id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        record.fail("id", f"a whole number or text, got {kind_of(value)}")
    return str(value)


def _reply(probe: Item) -> str | None:
    value = probe.get("response")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is not None and not isinstance(value, str):
        probe.fail("response", f"text or null, got {kind_of(value)}")
    return value


def _right(question: Question, answers: Answers) -> list[bool]:
    given = answers.get(question.id, [None] * len(question.probes))
    return [is_right(question.task, p.expected, r) for p, r in zip(question.probes, given, strict=True)]


def _scores(questions: Sequence[Question], answers: Answers) -> Scores:
    tasks: dict[str, list[list[bool]]] = {
        task: [_right(question, answers) for question in questions if question.task == task] for task in TASKS
    }
    by_probe = {task: mean(r for rights in questions for r in rights) for task, questions in tasks.items()}
    by_question = (mean(_means(rights)) for rights in tasks.values())
    return {
        **by_probe,
        "Forward": mean(value for value in by_probe.values() if value is not None),
        "Forward by question": mean(value for value in by_question if value is not None),
    }


def _means(rights: Iterable[list[bool]]) -> Iterator[float]:
    return (sum(each) / len(each) for each in rights if each)


def _items(questions: Sequence[Question], answers: Answers) -> Iterator[dict[str, Any]]:
    for question in questions:
        yield {"id": question.id, "task": question.task, "right": _right(question, answers)}


def _baselines(questions: Sequence[Question]) -> Iterator[tuple[str, Answers]]:
    def timer(task: str, probe: Probe) -> str:
        passed = int((probe.time - probe.asked) // TIMER_S)
        return str(passed + 1) if task == "REC" else ("No", "Yes")[passed > 0]

    says: dict[str, Callable[[str, Probe], str | None]] = {
        "always silent": lambda task, probe: None,
        'constant "Yes" / "1"': lambda task, probe: "1" if task == "REC" else "Yes",
        'constant "No" / "0"': lambda task, probe: "0" if task == "REC" else "No",
        f"blind timer, {TIMER_S:g} s": timer,
    }
    for name, say in says.items():
        yield name, {q.id: [say(q.task, probe) for probe in q.probes] for q in questions}
