"""Command line of the benchmark: ``python -m benchmarks.streampro run`` and ``... score``.

Tables go to standard output; progress and errors to standard error. An error is one line, and its kind is the
exit status (see :mod:`edge_runtime.errors`); Ctrl-C ends with 130.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.streampro import baselines, report
from benchmarks.streampro.annotations import Annotation, Prediction, read_annotations, read_predictions
from benchmarks.streampro.judges import JUDGES, open_judge
from benchmarks.streampro.score import score as compute_score
from edge_runtime.errors import EdgeError

PATH = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """StreamPro-F1: when and what a model says while a video goes on."""


@cli.command()
@click.option("--annotations", required=True, type=PATH, help="Questions and true answers (JSON Lines).")
@click.option("--predictions", required=True, type=PATH, help="What a model said (JSON Lines), see `run`.")
@click.option("--judge", "judge_name", default="exact", show_default=True, type=click.Choice(list(JUDGES)))
@click.option(
    "--prior",
    type=PATH,
    help="Annotations whose most frequent answers the baselines say: the training set. Else the scored file.",
)
@click.option("--json", "json_path", type=PATH, help="Write the whole report here.")
@click.option("--per-question", "csv_path", type=PATH, help="Write one CSV line per question here.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(0), help="Draws; 0: none.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the draws.")
def score(
    annotations: Path,
    predictions: Path,
    judge_name: str,
    prior: Path | None,
    json_path: Path | None,
    csv_path: Path | None,
    markdown: bool,
    bootstrap: int,
    seed: int,
) -> None:
    """Score predictions, and set the trivial baselines beside them."""
    questions = read_annotations(annotations)
    judge = open_judge(judge_name)
    result = compute_score(questions, read_predictions(predictions), judge, bootstrap=bootstrap, seed=seed)
    source = str(prior) if prior else f"the scored file itself ({annotations})"
    answers = baselines.Prior.count(read_annotations(prior) if prior else questions, source)
    trivial = {
        name: compute_score(questions, baselines.predict(name, questions, answers), judge, bootstrap=0)
        for name in baselines.BASELINES
    }
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
@click.option("--bundle", required=True, help="Model bundle: a shipped name or a folder.")
@click.option(
    "--annotations", required=True, type=PATH, help="Questions (JSON Lines); answers are not looked at."
)
@click.option("--out", required=True, type=PATH, help="Predictions. A stopped run goes on from OUT.partial.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Speak from.  [default: the bundle's]")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Clips at a time.")
@click.option("--backend", default="auto", show_default=True, help="Inference engine: auto, cpu or cuda.")
def run(bundle: str, annotations: Path, out: Path, threshold: float | None, workers: int, backend: str) -> None:
    """Let a model watch every clip and write what it says."""
    import edge_runtime
    from benchmarks.streampro.partial import PartialFile
    from benchmarks.streampro.progress import RunProgress
    from benchmarks.streampro.runner import Runner
    from edge_runtime.bundle import MANIFEST

    questions = read_annotations(annotations)
    model = edge_runtime.load(bundle, threads=1, backend=backend)
    settings = {
        "bundle": model.bundle.name,
        "bundle_sha256": _sha256(model.bundle.folder / MANIFEST),
        "annotations_sha256": _sha256(annotations),
        "threshold": model.protocol.threshold if threshold is None else threshold,
    }
    with PartialFile(out, settings) as partial:
        left = [question for question in questions if question.id not in partial.done]
        console = Console(stderr=True)
        if partial.done:
            console.print(
                f"going on after {len(partial.done)} of {len(questions)} questions", highlight=False
            )
        with RunProgress(console, len(left), sum(q.duration for q in left)) as progress:

            def keep(question: Annotation, prediction: Prediction) -> None:
                partial.append(prediction)
                progress.advance(question.duration)

            Runner(model, threshold=threshold, workers=workers).run(left, keep)
        partial.finish(questions)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run the command line; end the process with the exit status of the error, if any."""
    try:
        cli(standalone_mode=False)
    except EdgeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
