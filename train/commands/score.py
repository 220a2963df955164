"""``python -m train score``: StreamPro-F1 and false alarms of a checkpoint, without exporting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.commands.questions import asks_questions

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@asks_questions
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    type=click.FloatRange(0, 1),
    help="From which score on it speaks; repeatable. The checkpoint's own when absent.",
)
@click.option(
    "--ceiling", is_flag=True, help="Score what the training targets say as well, as if a model said it."
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Draws for intervals.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def score(
    checkpoint: Path,
    files: tuple[Path, ...],
    thresholds: tuple[float, ...],
    questions: int,
    seed: int,
    cache: Path,
    judge: str,
    ceiling: bool,
    bootstrap: int,
    as_json: bool,
) -> None:
    """Ask CHECKPOINT the questions in FILES, all at once rather than clip by clip, and score what it says.

    A checkpoint that watches for several questions in one session is asked them together and, to compare,
    apart. F1 is of questions with answers; false alarms per minute are of those without. Choose a
    threshold on validation clips, never on those that are reported.
    """
    from rich.console import Console

    from benchmarks.metric.judges import open_judge
    from train.models.checkpoint import load_checkpoint
    from train.rollout.examination import Examination, drawn, figures

    loaded = load_checkpoint(checkpoint)
    together = loaded.stream_format.queries_per_session
    tests = {}
    for file in files:
        examination = Examination(loaded, (file,), cache)
        asked = drawn(examination.annotations, questions, seed, together)
        tests[file] = examination, asked
    found: dict[str, dict[str, Any]] = {str(file): {} for file in files}
    for threshold in sorted(set(thresholds)) or [loaded.stream_format.threshold]:
        for file, (examination, asked) in tests.items():
            modes = [
                figures(
                    asked, examination.ask(asked, threshold, most), open_judge(judge), bootstrap=bootstrap
                )
                for most in dict.fromkeys((together, 1))
            ]
            apart = {"queries_per_session": together, "apart": modes[1]} if together > 1 else {}
            found[str(file)][f"{threshold:g}"] = modes[0] | apart
    if ceiling:
        for file, (examination, asked) in tests.items():
            found[str(file)]["ceiling"] = figures(
                asked, examination.play_back(asked), open_judge(judge), bootstrap=bootstrap
            )
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        console = Console()
        for file_name, by_threshold in found.items():
            questions = next(iter(by_threshold.values()))["questions"]
            console.print(f"{file_name}: {questions} questions", soft_wrap=True, highlight=False)
            console.print(_table(by_threshold))


def _table(by_threshold: dict[str, dict[str, Any]]) -> Table:
    """One row a threshold; columns only for what the file's questions can tell."""
    from rich.table import Table

    from benchmarks.metric.tasks import TASKS

    some = next(iter(by_threshold.values()))
    parts = [part for part in ("W-Avg", *TASKS) if part in some.get("f1", {})]
    grouped = "apart" in some
    table = Table("threshold", *(["questions a session"] if grouped else []), *parts)
    if "false_alarms" in some:
        table.add_column("false alarms/min")
    for threshold, together in by_threshold.items():
        for figures in (together, together["apart"]) if "apart" in together else (together,):
            row = [str(figures.get("queries_per_session", 1))] if grouped else []
            cells = [f"{figures['f1'][part]:.1f}" for part in parts]
            if "interval" in figures:
                cells[0] += " ({:.1f} to {:.1f})".format(*figures["interval"])
            if "false_alarms" in figures:
                alarms = figures["false_alarms"]
                cells.append(f"{alarms['per_minute']:.2f}")
                if alarms["interval"]:
                    cells[-1] += " ({:.2f} to {:.2f})".format(*alarms["interval"])
            table.add_row(threshold, *row, *cells)
    return table
