"""StreamPro-F1 of a set of predictions: per question, task and dimension, and over the whole benchmark.

Per question, with S the sum of the matched scores: precision S / responses, recall S / answers, F1 their
harmonic mean, 0 when either count is 0. Scores of tasks and dimensions and W-Avg are means over their
questions; Avg is the mean of the dimensions. Under this reading the paper's dimension scores and W-Avg follow
from its task scores, for one assignment only of the counts in its figure 3 to the tasks: EU 166, OU 144,
AA 240, TP 296, TG 331, GP 33, RF 75.

Where the paper is silent: Time and Acc are means over a question's answers, 0 for an answer that nobody gave,
then over questions; they count the response that the answer kept. The 95 % intervals are this project's: a
bootstrap over questions, drawn within each task so that every draw holds the same mix of tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.annotations import Annotation, FormatError, Prediction
from benchmarks.metric.judges import Case, Judge, prepare
from benchmarks.metric.matching import assign, match_predictions_first
from benchmarks.metric.tasks import DIMENSIONS, TASKS

METRICS = ("time", "accuracy", "precision", "recall", "f1")
"""What is measured, all in [0, 1], in the order of the columns of every array here."""


@dataclass(frozen=True)
class QuestionScore:
    """One question. ``missing``: the predictions have no line for it, which counts as never answered."""

    id: str
    task: str
    responses: int
    answers: int
    matched: int
    time: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    missing: bool


@dataclass(frozen=True)
class Summary:
    """Mean of several questions. ``intervals``: 95 % bootstrap interval of each metric, by its name."""

    questions: int
    responses: int
    answers: int
    time: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Report:
    """Everything :func:`score` found. Questions are sorted by id, tasks and dimensions as in the paper.

    ``weighted`` is W-Avg and ``average`` is Avg; None when no question belongs to a dimension. ``missing``:
    ids of questions without a prediction line. ``unanswerable``: ids of questions without any true answer;
    the paper's formula gives them 0 whatever is said.
    """

    judge: str
    questions: tuple[QuestionScore, ...]
    tasks: dict[str, Summary]
    dimensions: dict[str, Summary]
    weighted: Summary | None
    average: Summary | None
    missing: tuple[str, ...]
    unanswerable: tuple[str, ...]
    bootstrap: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score(
    annotations: Sequence[Annotation],
    predictions: Sequence[Prediction],
    judge: Judge,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Report:
    """Score ``predictions`` against ``annotations``; the order of neither matters.

    ``bootstrap``: draws behind the intervals, 0 for none. Raises FormatError for a prediction with an unknown
    id, for an id that comes twice, and when there is no question at all; an EdgeError when the judge cannot
    judge.
    """
    if not annotations:
        raise FormatError("annotations: expected at least one question, got an empty file")
    said = by_question(annotations, predictions)
    # One order of summation, so that a permuted file gives the same score to the last bit.
    ordered = sorted(annotations, key=lambda a: a.id)
    prepare(judge, [case for a in ordered if a.id in said for case in _cases(a, said[a.id])])
    questions = tuple(score_question(a, said.get(a.id), judge) for a in ordered)
    groups = _group(questions)
    draws = _Draws(groups, bootstrap, seed)
    codes = {d: [c for c in groups if TASKS[c].dimension == d] for d in DIMENSIONS}
    codes = {d: members for d, members in codes.items() if members}
    dimensions = {d: draws.pooled(members) for d, members in codes.items()}
    return Report(
        judge=judge.name,
        questions=questions,
        tasks={code: draws.pooled([code]) for code in groups},
        dimensions=dimensions,
        weighted=draws.pooled([c for members in codes.values() for c in members]) if codes else None,
        average=draws.averaged(list(codes.values())) if codes else None,
        missing=tuple(q.id for q in questions if q.missing),
        unanswerable=tuple(q.id for q in questions if q.answers == 0),
        bootstrap=bootstrap,
        seed=seed,
    )


def score_question(annotation: Annotation, prediction: Prediction | None, judge: Judge) -> QuestionScore:
    """StreamPro-F1 of one question; ``prediction`` None counts as never answered."""
    responses = prediction.responses if prediction else ()
    matches = [m for m in match_predictions_first(annotation, responses, judge) if m is not None]
    said, true = len(responses), len(annotation.answers)
    total = sum(m.product for m in matches)
    precision = total / said if said else 0.0
    recall = total / true if true else 0.0
    return QuestionScore(
        id=annotation.id,
        task=annotation.task,
        responses=said,
        answers=true,
        matched=len(matches),
        time=sum(m.time_score for m in matches) / true if true else 0.0,
        accuracy=sum(m.accuracy for m in matches) / true if true else 0.0,
        precision=precision,
        recall=recall,
        f1=2 * total / (said + true) if said and true else 0.0,  # = 2PR / (P + R), and defined when S is 0
        missing=prediction is None,
    )


def by_question(
    annotations: Sequence[Annotation], predictions: Sequence[Prediction]
) -> dict[str, Prediction]:
    """Predictions by their question's id. Raises FormatError for an id that is unknown or comes twice."""
    _check_distinct(annotations)
    _check_distinct(predictions)
    said = {prediction.id: prediction for prediction in predictions}
    unknown = said.keys() - {annotation.id for annotation in annotations}
    if unknown:
        first = min((said[name] for name in unknown), key=lambda p: p.line)
        where = f"{first.path}, line {first.line}, key 'id'"
        raise FormatError(f"{where}: expected the id of an annotated question, got {first.id!r}")
    return said


def _check_distinct(records: Sequence[Annotation] | Sequence[Prediction]) -> None:
    """Files are read so; records made by a program may not be."""
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            where = f"{record.path}, line {record.line}, key 'id'"
            raise FormatError(f"{where}: expected a value of its own, {record.id!r} came before")
        seen.add(record.id)


def _cases(annotation: Annotation, prediction: Prediction) -> Iterator[Case]:
    targets = assign(annotation, [response.time for response in prediction.responses])
    for response, target in zip(prediction.responses, targets, strict=True):
        if target is not None:
            yield Case(annotation, annotation.answers[target], response)


def _group(questions: Iterable[QuestionScore]) -> dict[str, list[QuestionScore]]:
    groups: dict[str, list[QuestionScore]] = defaultdict(list)
    for question in questions:
        groups[question.task].append(question)
    return {code: groups[code] for code in TASKS if code in groups}


class _Draws:
    """Bootstrap draws of every task, from which those of any mean over tasks follow."""

    def __init__(self, groups: Mapping[str, list[QuestionScore]], count: int, seed: int) -> None:
        self._groups = groups
        self._mean: dict[str, NDArray[np.float64]] = {}  # code -> [metrics]
        self._draws: dict[str, NDArray[np.float64]] = {}  # code -> [count, metrics]
        for number, code in enumerate(TASKS):
            if code not in groups:
                continue
            values = np.array([[getattr(q, m) for m in METRICS] for q in groups[code]])  # [n, metrics]
            # A generator per task: a task's interval does not depend on which other tasks there are.
            picks = np.random.default_rng([seed, number]).multinomial(
                len(values), np.full(len(values), 1 / len(values)), size=count
            )  # [count, n]: how often each question is drawn
            self._mean[code] = values.mean(axis=0)
            self._draws[code] = picks @ values / len(values)

    def pooled(self, codes: Sequence[str]) -> Summary:
        """Mean over the questions of some tasks."""
        sizes = np.array([len(self._groups[code]) for code in codes], dtype=np.float64)
        weights = sizes / sizes.sum()
        return self._summary(codes, [(code, float(w)) for code, w in zip(codes, weights, strict=True)])

    def averaged(self, dimensions: Sequence[Sequence[str]]) -> Summary:
        """Mean over dimensions, each of which is the mean over its questions."""
        shares: list[tuple[str, float]] = []
        for codes in dimensions:
            total = sum(len(self._groups[code]) for code in codes)
            shares += [(code, len(self._groups[code]) / total / len(dimensions)) for code in codes]
        return self._summary([code for code, _ in shares], shares)

    def _summary(self, codes: Sequence[str], shares: Sequence[tuple[str, float]]) -> Summary:
        # Clipped, because shares that add up to 1 on paper may not in binary.
        mean = np.clip(sum(share * self._mean[code] for code, share in shares), 0.0, 1.0)
        draws = np.clip(sum(share * self._draws[code] for code, share in shares), 0.0, 1.0)
        intervals: dict[str, tuple[float, float]] = {}
        if len(draws):
            low, high = np.quantile(draws, [0.025, 0.975], axis=0)
            intervals = {m: (float(low[i]), float(high[i])) for i, m in enumerate(METRICS)}
        members = [question for code in codes for question in self._groups[code]]
        values = {metric: float(mean[i]) for i, metric in enumerate(METRICS)}
        return Summary(
            questions=len(members),
            responses=sum(q.responses for q in members),
            answers=sum(q.answers for q in members),
            intervals=intervals,
            **values,
        )
