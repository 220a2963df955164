"""Everything a page shows, as one JSON object. The figures are those of :func:`..score.score`, unrounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.metric.annotations import Annotation, Prediction
from benchmarks.metric.judges import Judge
from benchmarks.metric.score import METRICS, QuestionScore, Report
from benchmarks.metric.tasks import DIMENSIONS, SLACK_S, TASKS
from benchmarks.streampro import report as tables
from benchmarks.streampro.page.scores import response_score, timestep_scores
from benchmarks.streampro.page.timing import earliness, reliability, right_moments
from benchmarks.streampro.page.verdicts import VERDICTS, QuestionVerdict, judge_question


@dataclass(frozen=True)
class Scored:
    """A scored run. ``baselines``: reports of the trivial baselines by name. ``facts``: lines of the head."""

    title: str
    annotations: Sequence[Annotation]
    predictions: Sequence[Prediction]
    judge: Judge
    report: Report
    baselines: Mapping[str, Report]
    prior_source: str
    facts: Sequence[tuple[str, str]] = ()
    threshold: float | None = None
    remarks: Sequence[str] = field(default=())
    """Notes of the caller, put before those of the tables."""


def build(run: Scored) -> dict[str, Any]:
    """The object that the page's script reads. Raises FormatError for scores that cannot be used."""
    said = {prediction.id: prediction for prediction in run.predictions}
    silent = {a.id: Prediction(a.id, ()) for a in run.annotations if a.id not in said}
    predictions = {**said, **silent}
    verdicts = {a.id: judge_question(a, predictions[a.id].responses, run.judge) for a in run.annotations}
    steps = {a.id: _steps_in_force(a, predictions[a.id]) for a in run.annotations}
    scored = {question.id: question for question in run.report.questions}
    report = run.report.to_dict()
    del report["questions"]
    return {
        "title": run.title,
        "summary": summary(run.report, run.baselines),
        "facts": [list(fact) for fact in (*run.facts, *_counts(run))],
        "notes": [*run.remarks, *tables.notes(run.report, run.prior_source), *_notes(run.report)],
        "threshold": run.threshold,
        "report": report,
        "table": {"columns": list(tables.SCORE_COLUMNS), "rows": _rows(run.report, run.baselines)},
        "baselines": {
            "columns": list(tables.baseline_columns(run.report)),
            "rows": [list(row) for row in tables.baseline_rows(run.report, run.baselines)],
            "scores": {
                name: {"weighted": _f1(each.weighted), "average": _f1(each.average)}
                for name, each in run.baselines.items()
            },
        },
        "tasks": {code: _task(code) for code in run.report.tasks},
        "dimensions": DIMENSIONS,
        "verdicts": VERDICTS,
        "earliness": {
            code: asdict(earliness(verdicts[a.id] for a in run.annotations if a.task == code))
            for code in run.report.tasks
        },
        "reliability": _reliability(run.annotations, predictions, verdicts, steps),
        "questions": [
            _question(a, predictions[a.id], scored[a.id], verdicts[a.id], steps[a.id])
            for a in run.annotations
        ],
    }


def summary(report: Report, baselines: Mapping[str, Report]) -> str:
    """The result in one sentence."""
    if not report.weighted:
        return "No question belongs to a dimension of the benchmark, so there is no average."
    interval = report.weighted.intervals.get("f1")
    span = f" (95 %: {tables.points(interval[0])} to {tables.points(interval[1])})" if interval else ""
    text = f"W-Avg F1 is {tables.points(report.weighted.f1)} of 100 points{span}"
    best = max(
        ((each.weighted.f1, name) for name, each in baselines.items() if each.weighted),
        key=lambda pair: pair[0],
        default=None,
    )
    if best:
        text += f"; the best trivial baseline, \u201c{best[1]}\u201d, has {tables.points(best[0])}"
    return text + "."


def _notes(report: Report) -> list[str]:
    notes = [
        "a failure is a question with an answer that got nothing of worth, or with a response worth nothing",
        "precision and recall of a task are means over its questions, and so is F1: it need not be the"
        " harmonic mean of the two",
    ]
    if "GP" in report.tasks:
        notes.append("the window of GP's first step is turned round, to the 3 s after the query")
    return notes


def _counts(run: Scored) -> list[tuple[str, str]]:
    videos = {a.video_path: a.duration for a in run.annotations}
    length = _length(sum(videos.values()))
    responses = sum(question.responses for question in run.report.questions)
    answers = sum(question.answers for question in run.report.questions)
    return [
        ("questions", f"{len(run.annotations):,} on {len(videos):,} videos ({length})"),
        ("responses", f"{responses:,} to {answers:,} true answers"),
    ]


def _length(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _rows(report: Report, baselines: Mapping[str, Report]) -> list[dict[str, Any]]:
    rows = []
    for cells in tables.score_rows(report):
        key = cells[0].split(" ")[0]
        mine = _summary(report, key)
        best = max(((_f1(_summary(each, key)), name) for name, each in baselines.items()), default=None)
        rows.append(
            {
                "key": key,
                "kind": "task" if key in report.tasks else "mean",
                "cells": list(cells),
                "f1": mine.f1,
                "interval": mine.intervals.get("f1"),
                "baseline": {"name": best[1], "f1": best[0]} if best else None,
            }
        )
    return rows


def _summary(report: Report, key: str) -> Any:
    averages = {"Avg": report.average, "W-Avg": report.weighted}
    return {**report.tasks, **report.dimensions, **averages}[key]


def _f1(summary: Any) -> float | None:
    return summary.f1 if summary else None


def _task(code: str) -> dict[str, Any]:
    task = TASKS[code]
    return {
        "name": task.name,
        "dimension": task.dimension,
        "window": [-task.before, task.after],  # around the best time
        "interval": task.anchor == "interval",
    }


def _steps_in_force(annotation: Annotation, prediction: Prediction) -> list[tuple[float, float]] | None:
    """Recorded scores from the query on; before it nothing is decided."""
    steps = timestep_scores(prediction)
    if steps is None:
        return None
    return [step for step in steps if step[0] >= annotation.query.time - SLACK_S]


def _reliability(
    annotations: Sequence[Annotation],
    predictions: Mapping[str, Prediction],
    verdicts: Mapping[str, QuestionVerdict],
    steps: Mapping[str, list[tuple[float, float]] | None],
) -> dict[str, Any] | None:
    judged: list[tuple[float, bool]] = []
    questions = 0
    for annotation in annotations:
        mine = steps[annotation.id]
        if not mine:
            continue
        questions += 1
        times = [time for time, _ in mine]
        rights = right_moments(
            annotation, predictions[annotation.id].responses, verdicts[annotation.id], times
        )
        judged += [(score, right) for (_, score), right in zip(mine, rights, strict=True)]
    found = reliability(judged, questions)
    return asdict(found) if found else None


def _question(
    annotation: Annotation,
    prediction: Prediction,
    scored: QuestionScore,
    verdict: QuestionVerdict,
    steps: list[tuple[float, float]] | None,
) -> dict[str, Any]:
    return {
        "id": annotation.id,
        "task": annotation.task,
        "video": annotation.video,
        "duration": annotation.duration,
        "asked": annotation.query.time,
        "query": annotation.query.text,
        "missing": scored.missing,
        "failed": verdict.failed,
        **{metric: getattr(scored, metric) for metric in METRICS},
        "answers": [
            {"start": a.start, "end": a.end, "text": a.text, **asdict(v)}
            for a, v in zip(annotation.answers, verdict.answers, strict=True)
        ],
        "responses": [
            {"time": r.time, "text": r.text, "score": response_score(prediction, i), **asdict(v)}
            for i, (r, v) in enumerate(zip(prediction.responses, verdict.responses, strict=True))
        ],
        "scores": [list(column) for column in zip(*steps, strict=True)] if steps else None,
    }
