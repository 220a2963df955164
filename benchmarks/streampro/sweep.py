"""``python -m benchmarks.streampro sweep``: which decision threshold scores best on a validation set.

Class-balanced training (CB-Stream Loss) makes a model readier to speak than the data is; the threshold that
undoes this belongs to the bundle (``python -m export --threshold``). Choose it on validation clips, never on
those that are reported.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.metric.annotations import Annotation, Prediction, read_annotations
from benchmarks.metric.judges import open_judge
from benchmarks.metric.progress import Progress
from benchmarks.metric.score import Report, score
from benchmarks.streampro.runner import Runner
from edge_runtime.engine.model import Model


def sweep_thresholds(
    model: Model,
    questions: list[Annotation],
    thresholds: list[float],
    workers: int,
    shown: bool = False,
) -> dict[float, Report]:
    """Answer every question at every threshold; StreamPro-F1 (exact answers) of each, without intervals.

    ``shown``: report progress on stderr.
    """
    reports: dict[float, Report] = {}
    video_s = sum(question.duration for question in questions) * len(thresholds)
    count = len(questions) * len(thresholds)
    with Progress(count, "sweep", unit="question", work=video_s, shown=shown, patient=True) as progress:
        for threshold in thresholds:
            said: list[Prediction] = []

            def keep(question: Annotation, prediction: Prediction, said: list[Prediction] = said) -> None:
                said.append(prediction)
                progress.advance(work=question.duration)

            Runner(model, threshold=threshold, workers=workers).run(questions, keep)
            reports[threshold] = score(questions, said, open_judge("exact"), bootstrap=0)
    return reports


@click.command()
@click.option("--bundle", required=True, help="A bundle's name or folder.")
@click.option("--annotations", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threshold", "thresholds", multiple=True, type=click.FloatRange(0, 1), help="Repeatable.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1))
def sweep(bundle: str, annotations: Path, thresholds: tuple[float, ...], workers: int) -> None:
    """Score a bundle at several decision thresholds, to choose one on validation clips."""
    import edge_runtime

    chosen = sorted(set(thresholds)) or [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    questions = read_annotations(annotations)
    model = edge_runtime.load(bundle, threads=1)
    reports = sweep_thresholds(model, questions, chosen, workers, shown=True)
    table = Table("threshold", "W-Avg F1", "precision", "recall", *next(iter(reports.values())).tasks)
    for threshold, report in reports.items():
        whole = report.weighted
        figures = (whole.f1, whole.precision, whole.recall) if whole else (0.0, 0.0, 0.0)
        tasks = [summary.f1 for summary in report.tasks.values()]
        table.add_row(f"{threshold:g}", *(f"{100 * value:.1f}" for value in (*figures, *tasks)))
    Console().print(table)
