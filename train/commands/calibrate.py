"""``python -m train calibrate``: the decision threshold of a checkpoint, from validation clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from train.commands.questions import asks_questions
from train.rollout.threshold import FALSE_ALARMS, GRID, best_threshold, describe


@click.command()
@asks_questions
@click.option(
    "--false-alarms",
    type=click.FloatRange(min=0),
    default=FALSE_ALARMS,
    show_default=True,
    help="Per minute, at most, on questions that nothing answers.",
)
def calibrate(
    checkpoint: Path,
    files: tuple[Path, ...],
    false_alarms: float,
    questions: int,
    seed: int,
    cache: Path,
    judge: str,
) -> None:
    """Write the threshold with the best F1 on FILES into CHECKPOINT, within a limit on false alarms.

    A loss that weighs both decisions alike, as CB-Stream does, puts the best threshold above 0.5. FILES are
    validation clips, never those that a score is reported on; some of their questions must have no answer.
    """
    from benchmarks.metric.judges import open_judge
    from edge_runtime.atomic_write import write_whole
    from train.models.checkpoint import load_checkpoint
    from train.rollout.examination import Examination, drawn, figures

    loaded = load_checkpoint(checkpoint)
    examination = Examination(loaded, files, cache)
    asked = drawn(examination.annotations, questions, seed, loaded.stream_format.queries_per_session)
    found: dict[float, dict[str, Any]] = {}
    for threshold in GRID:
        found[threshold] = figures(asked, examination.ask(asked, threshold), open_judge(judge))
        click.echo(f"{threshold:<6g} {describe(found[threshold])}", err=True)
    best = best_threshold(found, false_alarms)
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    config["protocol"]["threshold"] = best
    write_whole(path, [json.dumps(config, indent=2), "\n"])
    click.echo(f"{path}: threshold {best:g}, {describe(found[best])}")
