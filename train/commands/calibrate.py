"""``python -m train calibrate``: the decision threshold of a checkpoint, from validation clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from train.commands.questions import asks_questions

GRID = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)


@click.command()
@asks_questions
@click.option(
    "--false-alarms",
    type=click.FloatRange(min=0),
    default=0.3,
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
        click.echo(f"{threshold:<6g} {_line(found[threshold])}", err=True)
    best = best_threshold(found, false_alarms)
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    config["protocol"]["threshold"] = best
    write_whole(path, [json.dumps(config, indent=2), "\n"])
    click.echo(f"{path}: threshold {best:g}, {_line(found[best])}")


def best_threshold(found: dict[float, dict[str, Any]], false_alarms: float) -> float:
    """The threshold of the best F1 among those within the limit; the quietest when there is none.

    Raises ClickException when the questions cannot tell: all of them are answered, or none.
    """
    some = next(iter(found.values()))
    if "f1" not in some or "false_alarms" not in some:
        raise click.ClickException(
            "the files need questions with answers and questions without; add a file that has the other kind"
        )
    rate = {threshold: one["false_alarms"]["per_minute"] for threshold, one in found.items()}
    within = [threshold for threshold in found if rate[threshold] <= false_alarms]
    if not within:
        return min(found, key=lambda threshold: (rate[threshold], threshold))
    return max(within, key=lambda threshold: found[threshold]["f1"]["W-Avg"])


def _line(figures: dict[str, Any]) -> str:
    f1 = figures.get("f1", {}).get("W-Avg", float("nan"))
    rate = figures.get("false_alarms", {}).get("per_minute", float("nan"))
    return f"W-Avg {f1:.1f}, {rate:.2f} false alarms per minute"
