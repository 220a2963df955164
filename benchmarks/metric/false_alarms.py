"""``python -m benchmarks.streampro false-alarms``: how often a model speaks when nothing relevant happens.

StreamPro-F1 says nothing about questions without a true answer: there it is 0 whatever is done. Here these
questions are all that counts. The rate is responses per minute watched, from the query to the clip's end,
over all such questions; its 95 % interval is a bootstrap over clips, whose questions share their frames.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.metric.annotations import (
    Annotation,
    FormatError,
    Prediction,
    read_annotations,
    read_predictions,
)
from benchmarks.metric.score import by_question
from benchmarks.metric.tasks import TASKS
from edge_runtime.atomic_write import write_whole


@dataclass(frozen=True)
class Rate:
    """False alarms. ``with_alarms``: questions that got a response. ``interval``: 95 %, of per_minute;
    None without draws.
    """

    questions: int
    clips: int
    with_alarms: int
    minutes: float
    responses: int
    per_minute: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class FalseAlarms:
    """The rate of all questions without a true answer, and by task in the paper's order."""

    overall: Rate
    tasks: dict[str, Rate]
    bootstrap: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def false_alarms(
    annotations: Sequence[Annotation],
    predictions: Sequence[Prediction],
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> FalseAlarms:
    """Count responses per minute on those of ``annotations`` that have no answer; the others are ignored.

    A question without a prediction counts as one to which nothing was said. ``bootstrap``: draws, 0 for none.
    Raises FormatError when every question has an answer, and as :func:`score` does for ids.
    """
    said = by_question(annotations, predictions)
    empty = [a for a in annotations if not a.answers]
    if not empty:
        raise FormatError(
            "annotations: expected questions without answers, where silence is right; every question has one"
        )
    spoken = {a.id: len(said[a.id].responses) if a.id in said else 0 for a in empty}
    groups = {code: [a for a in empty if a.task == code] for code in TASKS}
    return FalseAlarms(
        _rate(empty, spoken, bootstrap, seed),
        {code: _rate(group, spoken, bootstrap, seed) for code, group in groups.items() if group},
        bootstrap,
        seed,
    )


def _rate(questions: Sequence[Annotation], spoken: dict[str, int], bootstrap: int, seed: int) -> Rate:
    clips: dict[Path, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for question in questions:
        clip = clips[question.video_path]
        clip[0] += spoken[question.id]
        clip[1] += max(0.0, question.duration - question.query.time) / 60.0
    sums = np.array([clips[path] for path in sorted(clips)])  # [clips, 2]: responses, minutes
    responses, minutes = sums.sum(0).tolist()
    interval = None
    if bootstrap:
        n = len(sums)
        picks = np.random.default_rng(seed).multinomial(
            n, np.full(n, 1 / n), size=bootstrap
        )  # [draws, clips]
        drawn = picks @ sums
        low, high = np.quantile(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-9), [0.025, 0.975])
        interval = (float(low), float(high))
    return Rate(
        questions=len(questions),
        clips=len(clips),
        with_alarms=sum(spoken[question.id] > 0 for question in questions),
        minutes=minutes,
        responses=int(responses),
        per_minute=responses / minutes if minutes else 0.0,
        interval=interval,
    )


PATH = click.Path(dir_okay=False, path_type=Path)


@click.command("false-alarms")
@click.option("--annotations", required=True, type=PATH, help="Questions, some of them without answers.")
@click.option("--predictions", required=True, type=PATH, help="What a model said (JSON Lines), see `run`.")
@click.option("--json", "json_path", type=PATH, help="Write the figures here.")
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(0), help="Draws; 0: none.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the draws.")
def false_alarms_command(
    annotations: Path, predictions: Path, json_path: Path | None, bootstrap: int, seed: int
) -> None:
    """Count false alarms per minute, on questions about what never happens in the clip."""
    found = false_alarms(
        read_annotations(annotations), read_predictions(predictions), bootstrap=bootstrap, seed=seed
    )
    if json_path:
        write_whole(json_path, [json.dumps(found.to_dict(), indent=2) + "\n"])
    table = Table("", "questions", "clips", "with alarms", "minutes", "responses", "per minute", "95 %")
    for name, rate in [*found.tasks.items(), ("all", found.overall)]:
        interval = f"{rate.interval[0]:.2f}-{rate.interval[1]:.2f}" if rate.interval else "-"
        counts = (str(n) for n in (rate.questions, rate.clips, rate.with_alarms))
        table.add_row(
            name, *counts, f"{rate.minutes:.1f}", str(rate.responses), f"{rate.per_minute:.2f}", interval
        )
    Console(width=120).print(table)
