"""Command line: ``python -m benchmarks.external pauc|ovo-forward|streamingbench|timediff|convert``.

Tables go to standard output; what a conversion could not carry over and errors to standard error. An error is
one line, and its kind is the exit status (see :mod:`edge_runtime.errors`); Ctrl-C ends with 130.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from benchmarks.external import ovo_forward, pauc, streamingbench, table, timediff
from benchmarks.external.formats.changes import OURS
from benchmarks.external.formats.run import FORMATS, Options, convert, read_durations
from benchmarks.metric.tasks import TASKS
from edge_runtime.command_line.exit import run_command

PATH = click.Path(dir_okay=False, path_type=Path)

Command = TypeVar("Command", bound=Callable[..., None])


def metric_options(command: Command) -> Command:
    """Options of every metric."""
    for option in (
        click.option("--json", "json_path", type=PATH, help="Write the whole report here."),
        click.option("--predictions", required=True, type=PATH, help="What a model said."),
        click.option("--annotations", required=True, type=PATH, help="Questions and true answers."),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Other projects' metrics, from their own files, with trivial baselines beside every score."""


@cli.command("pauc")
@metric_options
@click.option(
    "--protocol", default="proactivevideoqa", show_default=True, type=click.Choice(list(pauc.PROTOCOLS))
)
def pauc_command(annotations: Path, predictions: Path, json_path: Path | None, protocol: str) -> None:
    """PAUC of ProactiveVideoQA (anno.json)."""
    _show(pauc.score(annotations, predictions, protocol), json_path)


@cli.command("ovo-forward")
@metric_options
def ovo_forward_command(annotations: Path, predictions: Path, json_path: Path | None) -> None:
    """OVO-Bench forward active responding, shipped protocol (not StreamPro-F1)."""
    _show(ovo_forward.score(annotations, predictions), json_path)


@cli.command("streamingbench")
@metric_options
@click.option("--model", help="Name of the model in the results, when there are several.")
def streamingbench_command(
    annotations: Path, predictions: Path, json_path: Path | None, model: str | None
) -> None:
    """StreamingBench proactive output: moment within 2 s, and the answer."""
    _show(streamingbench.score(annotations, predictions, model), json_path)


@cli.command("timediff")
@metric_options
@click.option("--fps", default=timediff.FPS, show_default=True, type=click.FloatRange(0, min_open=True))
def timediff_command(annotations: Path, predictions: Path, json_path: Path | None, fps: float) -> None:
    """TimeDiff of VideoLLM-online: seconds off the right moment."""
    _show(timediff.score(annotations, predictions, fps), json_path)


@cli.command("convert")
@click.argument("source", metavar="FROM", type=click.Choice([OURS, *FORMATS]))
@click.argument("target", metavar="TO", type=click.Choice([OURS, *FORMATS]))
@click.argument("path", metavar="IN", type=PATH)
@click.argument("out", metavar="OUT", type=PATH)
@click.option("--task", type=click.Choice(list(TASKS)), help="Our task for records that do not name theirs.")
@click.option("--task-map", "pairs", multiple=True, metavar="KIND=TASK", help="Our task for a peer's kind.")
@click.option("--durations", type=PATH, help='JSON of {"video": seconds} for formats without lengths.')
def convert_command(
    source: str,
    target: str,
    path: Path,
    out: Path,
    task: str | None,
    pairs: tuple[str, ...],
    durations: Path | None,
) -> None:
    """Convert annotations. FROM and TO: streampro, and one of streamo, proactivevideoqa, ovo-bench or
    streamingbench. What can't be carried over is said on standard error."""
    tasks = {"": task} if task else {}
    for pair in pairs:
        kind, equals, code = pair.rpartition("=")
        if not equals or code not in TASKS:
            raise click.BadParameter(f"expected KIND=TASK with a task of {', '.join(TASKS)}, got {pair!r}")
        tasks[kind] = code
    options = Options(tasks, read_durations(durations) if durations else {})
    outcome = convert(source, target, path, out, options)
    click.echo(f"{source} to {target}: {outcome.read} records read, {outcome.written} written", err=True)
    for line in outcome.notes.lines():
        click.echo(line, err=True)


def _show(report: table.MetricReport, json_path: Path | None) -> None:
    if json_path:
        table.write_json(json_path, report)
    # A pipe has no width of its own; 120 columns hold the widest table.
    Console(width=None if sys.stdout.isatty() else 120).print(table.render(report))


def main() -> None:
    """Run the command line; end the process with the exit status of the error, if any."""
    run_command(cli)


if __name__ == "__main__":
    main()
