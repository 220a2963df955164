"""A score for people and for machines: a table on the terminal, Markdown, JSON, and CSV per question.

Scores are printed in points (100 = perfect), as the paper does; JSON and CSV hold them in [0, 1].
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.metric.score import METRICS, QuestionScore, Report, Summary
from benchmarks.metric.tasks import DIMENSIONS, TASKS
from edge_runtime.atomic_write import write_whole

SCORE_COLUMNS = ("", "questions", "said", "true", "Time", "Acc", "Prec.", "Rec.", "F1", "95 %")


def score_rows(report: Report) -> Iterator[tuple[str, ...]]:
    """Rows under SCORE_COLUMNS: tasks and their dimensions, Avg and W-Avg, then training-only tasks."""
    for dimension, name in DIMENSIONS.items():
        if dimension not in report.dimensions:
            continue
        for code, summary in report.tasks.items():
            if TASKS[code].dimension == dimension:
                yield _row(f"{code} {TASKS[code].name}", summary)
        yield _row(f"{dimension} {name}", report.dimensions[dimension])
    if report.average and report.weighted:
        yield _row("Avg", report.average)
        yield _row("W-Avg", report.weighted)
    for code, summary in report.tasks.items():
        if TASKS[code].dimension is None:
            yield _row(f"{code} {TASKS[code].name}*", summary)


def baseline_columns(report: Report) -> tuple[str, ...]:
    """Head of the table that sets the score beside the baselines."""
    return ("F1", *report.tasks, "Avg", "W-Avg")


def baseline_rows(report: Report, baselines: Mapping[str, Report]) -> Iterator[tuple[str, ...]]:
    """F1 in points of the predictions and of each baseline, per task and averaged."""
    for name, each in {"predictions": report, **baselines}.items():
        averages = (points(s.f1) if s else "-" for s in (each.average, each.weighted))
        yield (name, *(points(summary.f1) for summary in each.tasks.values()), *averages)


def notes(report: Report, prior_source: str) -> Iterator[str]:
    """What a reader must know to read the tables rightly. ``prior_source``: empty without baselines."""
    yield f"judge: {report.judge} (temporal grounding: temporal IoU); said: responses; true: answers"
    if any(TASKS[code].dimension is None for code in report.tasks):
        yield "*: a task that is only trained on, in no average"
    if report.bootstrap:
        yield f"95 %: interval of F1, {report.bootstrap} bootstrap draws over questions, seed {report.seed}"
    if prior_source:
        yield f"baselines say the most frequent answer of each task in {prior_source}"
    if report.missing:
        count = f"{len(report.missing)} of {len(report.questions)} questions"
        yield f"{count} have no prediction line: {_some(report.missing)}"
    if report.unanswerable:
        count = f"{len(report.unanswerable)} questions"
        yield f"{count} have no true answer and score 0: {_some(report.unanswerable)}"


def render(report: Report, baselines: Mapping[str, Report], prior_source: str) -> RenderableType:
    """Both tables and the notes for a terminal."""
    bold = (*DIMENSIONS, "Avg", "W-Avg")
    parts: list[RenderableType] = [_table(SCORE_COLUMNS, score_rows(report), bold)]
    if baselines:
        parts.append(_table(baseline_columns(report), baseline_rows(report, baselines), ("predictions",)))
    parts += [Text(note, style="dim") for note in notes(report, prior_source)]
    return Group(*parts)


def markdown(report: Report, baselines: Mapping[str, Report], prior_source: str) -> str:
    """The same as :func:`render`, as Markdown."""
    parts = [_markdown_table(SCORE_COLUMNS, score_rows(report))]
    if baselines:
        parts.append(_markdown_table(baseline_columns(report), baseline_rows(report, baselines)))
    parts.append("\n".join(f"- {note}" for note in notes(report, prior_source)))
    return "\n\n".join(parts)


def write_json(path: Path, report: Report, baselines: Mapping[str, Report], prior_source: str) -> None:
    """Everything but the questions of the baselines. Raises SinkError."""
    data = report.to_dict()
    data["baselines"] = {
        name: {k: v for k, v in each.to_dict().items() if k in ("tasks", "dimensions", "weighted", "average")}
        for name, each in baselines.items()
    }
    data["baseline_answers_from"] = prior_source
    write_whole(path, [json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"])


def write_csv(path: Path, report: Report) -> None:
    """One line per question. Raises SinkError."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [f.name for f in fields(QuestionScore)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(question) for question in report.questions)
    write_whole(path, [out.getvalue()])


def points(value: float) -> str:
    """A score of [0, 1] in points with one decimal."""
    return f"{100 * value:.1f}"


def _row(name: str, summary: Summary) -> tuple[str, ...]:
    interval = summary.intervals.get("f1")
    return (
        name,
        *(str(n) for n in (summary.questions, summary.responses, summary.answers)),
        *(points(getattr(summary, metric)) for metric in METRICS),
        f"{points(interval[0])}-{points(interval[1])}" if interval else "-",
    )


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]], bold: tuple[str, ...]) -> Table:
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row, style="bold" if row[0].split(" ")[0] in bold else "")
    return table


def _markdown_table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    rule = ("---", *("---:" for _ in columns[1:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def _some(names: tuple[str, ...], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
