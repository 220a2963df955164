"""Command line of the benchmark: ``python -m benchmarks.streampro run``, ``... score`` and ``... plot``.

Tables go to standard output; progress and errors to standard error. An error is one line, and its kind is the
exit status (see :mod:`edge_runtime.errors`); Ctrl-C ends with 130.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks.metric import baselines
from benchmarks.metric.annotations import Annotation, Prediction, read_annotations, read_predictions
from benchmarks.metric.false_alarms import false_alarms_command
from benchmarks.metric.judges.options import JudgeOptions, judge_options
from benchmarks.metric.score import score as compute_score
from benchmarks.streampro import report
from benchmarks.streampro.hold import hold
from benchmarks.streampro.page.command import plot
from benchmarks.streampro.polled_command import Polling, polling_options, run_polled
from benchmarks.streampro.run_metadata import write_metadata
from benchmarks.streampro.sweep import sweep
from edge_runtime.bundle.verification import file_sha256
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime import Model

PATH = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """StreamPro-F1: when and what a model says while a video goes on."""


cli.add_command(plot)
cli.add_command(false_alarms_command)
cli.add_command(sweep)
cli.add_command(hold)


@cli.command()
@click.option("--annotations", required=True, type=PATH, help="Questions and true answers (JSON Lines).")
@click.option("--predictions", required=True, type=PATH, help="What a model said (JSON Lines), see `run`.")
@judge_options
@click.option(
    "--prior",
    type=PATH,
    help="Annotations whose most frequent answers the baselines say: the training set. Else the scored file.",
)
@click.option(
    "--baselines/--no-baselines",
    "with_baselines",
    default=True,
    help="Set the trivial baselines beside the score (default); a paid judge judges them too.",
)
@click.option("--json", "json_path", type=PATH, help="Write the whole report here.")
@click.option("--per-question", "csv_path", type=PATH, help="Write one CSV line per question here.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(0), help="Draws; 0: none.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the draws.")
def score(
    annotations: Path,
    predictions: Path,
    judge_options: JudgeOptions,
    prior: Path | None,
    with_baselines: bool,
    json_path: Path | None,
    csv_path: Path | None,
    markdown: bool,
    bootstrap: int,
    seed: int,
) -> None:
    """Score predictions, and set the trivial baselines beside them."""
    questions = read_annotations(annotations)
    said = read_predictions(predictions)
    blind: dict[str, list[Prediction]] = {}
    source = ""
    if with_baselines:
        source = str(prior) if prior else f"the scored file itself ({annotations})"
        answers = baselines.Prior.count(read_annotations(prior) if prior else questions, source)
        blind = {name: baselines.predict(name, questions, answers) for name in baselines.BASELINES}
    with judge_options.open() as judge:
        result = compute_score(questions, said, judge, bootstrap=bootstrap, seed=seed)
        trivial = {name: compute_score(questions, each, judge, bootstrap=0) for name, each in blind.items()}
    if json_path:
        report.write_json(json_path, result, trivial, source)
    if csv_path:
        report.write_csv(csv_path, result)
    if markdown:
        click.echo(report.markdown(result, trivial, source))
    else:
        # A pipe has no width of its own; 120 columns hold the widest table.
        Console(width=None if sys.stdout.isatty() else 120).print(report.render(result, trivial, source))


@cli.command()
@click.option("--bundle", help="Model bundle: a shipped name or a folder.")
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that training wrote, instead of a bundle: run by PyTorch on the CPU.",
)
@click.option(
    "--annotations", required=True, type=PATH, help="Questions (JSON Lines); answers are not looked at."
)
@click.option("--out", required=True, type=PATH, help="Predictions. A stopped run goes on from OUT.partial.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Speak from.  [default: the model's]")
@click.option(
    "--still-skip",
    type=click.FloatRange(0),
    default=0.0,
    help="Leave out timesteps of still scenes for so many seconds at most.  [default: 0, never]",
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Clips at a time.")
@click.option("--backend", default="auto", show_default=True, help="Inference engine: auto, cpu or cuda.")
@polling_options
def run(
    bundle: str | None,
    checkpoint: Path | None,
    annotations: Path,
    out: Path,
    threshold: float | None,
    still_skip: float,
    workers: int,
    backend: str,
    polling: Polling | None,
) -> None:
    """Let a model watch every clip and write what it says: a bundle, a checkpoint, or an offline model that
    is polled."""
    if polling is not None:
        if bundle or checkpoint or threshold is not None or still_skip or backend != "auto":
            raise click.UsageError(
                "--bundle, --checkpoint, --threshold, --still-skip and --backend do not go with --openai-url"
            )
        run_polled(polling, annotations, out, workers)
        return
    if (bundle is None) == (checkpoint is None):
        raise click.UsageError("give exactly one of --bundle, --checkpoint, and --openai-url with --model")

    from benchmarks.metric.progress import Progress, say
    from benchmarks.streampro.resume_log import ResumeLog
    from benchmarks.streampro.runner import Runner

    questions = read_annotations(annotations)
    model, identity = _open_checkpoint(checkpoint, backend) if checkpoint else _open_bundle(bundle, backend)
    settings = {
        **identity,
        "annotations_sha256": file_sha256(annotations),
        "threshold": model.stream_format.threshold if threshold is None else threshold,
    }
    if still_skip:
        settings["still_skip"] = still_skip
    with ResumeLog(out, settings) as partial:
        left = [question for question in questions if question.id not in partial.done]
        if partial.done:
            say(f"going on after {len(partial.done)} of {len(questions)} questions")
        with Progress(
            len(left), "run", unit="question", work=sum(q.duration for q in left), patient=True
        ) as progress:

            def keep(question: Annotation, prediction: Prediction) -> None:
                partial.append(prediction)
                progress.advance(work=question.duration)

            Runner(model, threshold=threshold, workers=workers, still_skip_s=still_skip).run(left, keep)
        write_metadata(out, settings, model.bundle)
        partial.finish(questions)


def _open_bundle(bundle: str | None, backend: str) -> tuple[Model, dict[str, str]]:
    """Return the model and what identifies it."""
    import edge_runtime
    from edge_runtime.bundle.manifest import MANIFEST

    model = edge_runtime.load(str(bundle), threads=1, backend=backend)
    manifest = model.bundle.path(MANIFEST)
    return model, {"bundle": model.bundle.name, "bundle_sha256": file_sha256(manifest)}


def _open_checkpoint(folder: Path, backend: str) -> tuple[Model, dict[str, str]]:
    """As :func:`_open_bundle`. Raises ConfigError without PyTorch, CheckpointError for another folder."""
    if backend not in ("auto", "cpu"):
        raise ConfigError(f"backend {backend}: a checkpoint runs on the CPU; export it for other devices")

    from benchmarks.reference.model import ReferenceModel

    model = ReferenceModel(folder, threads=1)  # the workers are the parallelism
    files = {f"{Path(name).stem}_sha256": file_sha256(model.bundle.path(name)) for name in model.bundle.files}
    return model, {"checkpoint": model.bundle.name, **files}


def main() -> None:
    """Run the command line; end the process with the exit status of the error, if any."""
    run_command(cli)


if __name__ == "__main__":
    main()
