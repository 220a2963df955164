"""PAUC, proactive area under the curve (ProactiveVideoQA, used by MMDuet2 too).

Every true answer has a span ``reply_timespan`` = [s, e] in which it may be given. The quality of what was
said so far is a step function over the span: y0 = 0.5 before the first reply, then the points 0..M of each
reply from the moment it came. ``omega`` pulls the moments to the start of the span, which is what
punishing lateness less means: x = (1 - omega) (t - s). PAUC is the area under the steps over the area T M,
so silence scores y0 / M. Steps, not trapezoids. The score of a file is the mean over all true answers.

Two variants are in use, see :data:`PROTOCOLS`:

- ``proactivevideoqa``: a judge reads all different replies of the span so far, joined, and gives 0 to 2; a
  reply after ``related_timespan`` that scores less than the last one inside it is taken to belong to the
  next answer and dropped. Published at omega 0, 0.5 and 1.
- ``mmduet2``: the judge reads each reply alone and gives 0 to 4; nothing is dropped. (In MMDuet2 this is
  the training reward, averaged per question; its benchmark numbers are ProactiveVideoQA's.)

In both, replies with s <= t <= e count and verbatim repeats inside a span are left out. A span of no
length, which both would divide by zero, gets its last reply's points here.

The peers' judges are language models. ``contains`` is this project's stand-in: full points when the true
answer's words stand in the judged text in a row, else none. Its numbers can't be compared with published
ones; those follow from a peer's judged file, whose ``judge_scores`` are used as they are.

Formats: ``anno.json`` of ProactiveVideoQA (read from a public sample of all four tasks); predictions as in
:mod:`benchmarks.external.replies`, or a judged file: ``anno.json`` records whose answers carry
``judge_scores``, {time: points}. Formula and first variant were checked against ports of
ProactiveVideoQA's ``pauc/judge_llm_scores_openai.py``, which itself was not at hand; the second against
MMDuet2's ``reward_function.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.external.records import read_records
from benchmarks.external.replies import Replies, Reply, check_known, missing, read_replies
from benchmarks.external.table import MetricReport, Scores, mean, missing_note
from benchmarks.metric.annotations import FormatError
from benchmarks.metric.baselines import TIMER_S
from benchmarks.metric.judges import normalise
from benchmarks.metric.records import Item

START_SCORE = 0.5
"""y0: what silence is worth until the first reply, in points whatever M is."""

OMEGAS = (0.0, 0.5, 1.0)

Point = tuple[float, float]
"""Time of a reply in seconds, and its points 0..M."""


@dataclass(frozen=True)
class Protocol:
    """How replies become points: M, whether the judge reads all replies so far, whether late ones drop."""

    full_points: int
    joined: bool
    drops_late: bool


PROTOCOLS = {
    "proactivevideoqa": Protocol(full_points=2, joined=True, drops_late=True),
    "mmduet2": Protocol(full_points=4, joined=False, drops_late=False),
}


@dataclass(frozen=True)
class Turn:
    """A true answer: when its event happens, when it may be given."""

    text: str
    related: tuple[float, float]
    span: tuple[float, float]


@dataclass(frozen=True)
class Question:
    """A question of ``anno.json``; times in seconds."""

    id: str
    asked: float
    duration: float
    turns: tuple[Turn, ...]


def pauc(points: Sequence[Point], span: tuple[float, float], full_points: float, omega: float) -> float:
    """Area under the steps of one true answer, in [0, 1] for points in 0..M."""
    if not points:
        return START_SCORE / full_points
    start, end = span
    length = end - start
    ordered = sorted(points, key=lambda point: point[0])
    if length == 0:
        return ordered[-1][1] / full_points
    area, x, y = 0.0, 0.0, START_SCORE
    for time, value in ordered:
        moment = (1 - omega) * (time - start)
        area += (moment - x) * y
        x, y = moment, value
    return (area + (length - x) * y) / (length * full_points)


def judge_turn(turn: Turn, replies: Sequence[Reply], protocol: Protocol) -> list[Point]:
    """Points of the replies inside the span, by the stand-in judge."""
    points: list[Point] = []
    heard: list[str] = []
    for reply in replies:
        if not turn.span[0] <= reply.time <= turn.span[1] or reply.text in heard:
            continue
        heard.append(reply.text)
        judged = " ".join(heard) if protocol.joined else reply.text
        points.append((reply.time, protocol.full_points * contains(judged, turn.text)))
    return points


def contains(said: str, true: str) -> float:
    """1 when the words of ``true`` stand in ``said`` in a row, else 0; case and punctuation do not matter."""
    words = normalise(true)
    return 1.0 if words and f" {words} " in f" {normalise(said)} " else 0.0


def drop_late(points: Sequence[Point], related_end: float) -> list[Point]:
    """Without the replies after ``related_end`` that score less than the last one before it."""
    ordered = sorted(points)
    inside = [value for time, value in ordered if time <= related_end]
    floor = inside[-1] if inside and len(ordered) > 1 else 0.0
    return [(time, value) for time, value in ordered if time <= related_end or value >= floor]


def read_questions(path: Path) -> list[Question]:
    """``anno.json``. Raises FormatError."""
    questions = [_question(record) for record in read_records(path)]
    if not questions:
        raise FormatError(f"{path}: expected at least one question, got none")
    return questions


def read_judged(path: Path, full_points: int) -> dict[str, list[list[Point]]] | None:
    """Points per question and true answer of a judged file; None when the file is not one."""
    records = read_records(path)
    if not records or "answer" not in records[0]:
        return None
    return {
        record.text("question_id"): [_scores(answer, full_points) for answer in record.items("answer")]
        for record in records
    }


def score(annotations: Path, predictions: Path, protocol_name: str = "proactivevideoqa") -> MetricReport:
    """PAUC of a file of predictions, with baselines. Raises FormatError."""
    protocol = PROTOCOLS[protocol_name]
    questions = read_questions(annotations)
    names = [question.id for question in questions]
    judged = read_judged(predictions, protocol.full_points)
    if judged is None:
        replies = read_replies(predictions)
        check_known(replies, names, predictions)
        absent = missing(replies, names)
        points = _judge(questions, replies, protocol)
        judge = "contains (this project's stand-in for the peers' language model)"
    else:
        check_known(judged, names, predictions)
        absent = missing(judged, names)
        points = _from_judged(questions, judged, predictions)
        judge = "judge_scores of the predictions; baselines: contains, this project's stand-in"
    return MetricReport(
        metric=f"PAUC, {protocol_name} variant",
        columns={f"omega {omega:g}": "points" for omega in OMEGAS},
        predictions=_mean_pauc(questions, points, protocol),
        baselines={
            name: _mean_pauc(questions, _judge(questions, said, protocol), protocol)
            for name, said in _baselines(questions)
        },
        notes=(
            f"judge: {judge}",
            f"mean over {sum(len(q.turns) for q in questions)} true answers of {len(questions)} questions; "
            f"points 0..{protocol.full_points}",
            "baselines say the most frequent true answer of the file",
            *missing_note(absent, len(names)),
        ),
        items=tuple(_items(questions, points, protocol)),
    )


def _question(record: Item) -> Question:
    turns = record.items("conversation")
    if not turns or turns[0].text("role") != "user":
        record.fail("conversation", "a list that begins with the user's question")
    return Question(
        id=record.text("question_id"),
        asked=turns[0].seconds("time"),
        duration=record.seconds("duration"),
        turns=tuple(_turn(answer) for answer in record.items("answer")),
    )


def _turn(answer: Item) -> Turn:
    span = answer.span("reply_timespan")
    related = answer.span("related_timespan") if "related_timespan" in answer else span
    return Turn(answer.text("content"), related, span)


def _scores(answer: Item, full_points: int) -> list[Point]:
    points = []
    for key, value in answer.child("judge_scores").value.items() if "judge_scores" in answer else ():
        try:
            time = float(key)
        except ValueError:
            answer.fail(f"judge_scores.{key}", "a time in seconds as key")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= full_points:
            answer.fail(
                f"judge_scores.{key}", f"points from 0 to {full_points} (see --protocol), got {value}"
            )
        points.append((time, float(value)))
    return points


def _judge(questions: Sequence[Question], replies: Replies, protocol: Protocol) -> list[list[list[Point]]]:
    return [[judge_turn(t, replies.get(q.id, ()), protocol) for t in q.turns] for q in questions]


def _from_judged(
    questions: Sequence[Question], judged: Mapping[str, list[list[Point]]], path: Path
) -> list[list[list[Point]]]:
    points = []
    for question in questions:
        turns = judged.get(question.id, [[] for _ in question.turns])
        if len(turns) != len(question.turns):
            raise FormatError(
                f"{path}, question {question.id!r}, key 'answer': expected {len(question.turns)} true "
                f"answers as in the annotations, got {len(turns)}"
            )
        inside = [
            [p for p in given if turn.span[0] <= p[0] <= turn.span[1]]
            for turn, given in zip(question.turns, turns, strict=True)
        ]
        points.append(inside)
    return points


def _values(
    questions: Sequence[Question],
    points: Sequence[Sequence[Sequence[Point]]],
    protocol: Protocol,
    omega: float,
) -> Iterator[float]:
    for question, turns in zip(questions, points, strict=True):
        for turn, given in zip(question.turns, turns, strict=True):
            kept = drop_late(given, turn.related[1]) if protocol.drops_late else given
            yield pauc(kept, turn.span, protocol.full_points, omega)


def _mean_pauc(
    questions: Sequence[Question], points: Sequence[Sequence[Sequence[Point]]], protocol: Protocol
) -> Scores:
    return {f"omega {omega:g}": mean(_values(questions, points, protocol, omega)) for omega in OMEGAS}


def _items(
    questions: Sequence[Question], points: Sequence[Sequence[Sequence[Point]]], protocol: Protocol
) -> Iterator[dict[str, Any]]:
    values = zip(*(_values(questions, points, protocol, omega) for omega in OMEGAS), strict=True)
    for question, turns in zip(questions, points, strict=True):
        for index, given in enumerate(turns):
            scores = {f"omega {omega:g}": value for omega, value in zip(OMEGAS, next(values), strict=True)}
            yield {"question_id": question.id, "answer": index, "points": [list(p) for p in given], **scores}


def _baselines(questions: Sequence[Question]) -> Iterator[tuple[str, Replies]]:
    counts = Counter(turn.text for question in questions for turn in question.turns)
    text = min(counts, key=lambda each: (-counts[each], each), default="")
    times: dict[str, Callable[[Question], list[float]]] = {
        "always silent": lambda q: [],
        "constant, every second": lambda q: [
            q.asked + n for n in range(int(max(q.duration - q.asked, 0)) + 1)
        ],
        f"blind timer, {TIMER_S:g} s": lambda q: [q.asked + TIMER_S],
    }
    for name, when in times.items():
        yield name, {q.id: tuple(Reply(time, text) for time in when(q)) for q in questions}
