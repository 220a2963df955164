"""``python -m benchmarks.streampro plot``: one page per scored run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.metric import baselines
from benchmarks.metric.annotations import Prediction, read_annotations, read_predictions
from benchmarks.metric.judges.options import JudgeOptions, judge_options
from benchmarks.metric.score import score
from benchmarks.streampro.page.data import Scored, build
from benchmarks.streampro.page.render import write_page
from benchmarks.streampro.run_metadata import read_metadata
from edge_runtime.bundle.verification import file_sha256

PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--annotations", required=True, type=PATH, help="Questions and true answers (JSON Lines).")
@click.option("--predictions", required=True, type=PATH, help="What a model said (JSON Lines), see `run`.")
@click.option("--out", required=True, type=PATH, help="The page (HTML); an older one is replaced.")
@judge_options
@click.option("--prior", type=PATH, help="As for `score`.")
@click.option("--baselines/--no-baselines", "with_baselines", default=True, help="As for `score`.")
@click.option("--title", help="Head of the page.  [default: the bundle's name or that of the predictions]")
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(0), help="Draws; 0: none.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the draws.")
def plot(
    annotations: Path,
    predictions: Path,
    out: Path,
    judge_options: JudgeOptions,
    prior: Path | None,
    with_baselines: bool,
    title: str | None,
    bootstrap: int,
    seed: int,
) -> None:
    """Draw a scored run: one HTML file with every question on its timeline, readable without a network."""
    questions = read_annotations(annotations)
    said = read_predictions(predictions)
    blind: dict[str, list[Prediction]] = {}
    source = ""
    if with_baselines:
        source = prior.name if prior else f"the scored file itself ({annotations.name})"
        answers = baselines.Prior.count(read_annotations(prior) if prior else questions, source)
        blind = {name: baselines.predict(name, questions, answers) for name in baselines.BASELINES}
    recorded = read_metadata(predictions)
    run = recorded["run"] if recorded else {}
    threshold = run.get("threshold")
    with judge_options.open() as judge:
        page = Scored(
            title=title
            or str(run.get("bundle") or run.get("checkpoint") or run.get("model") or predictions.stem),
            annotations=questions,
            predictions=said,
            judge=judge,
            report=score(questions, said, judge, bootstrap=bootstrap, seed=seed),
            baselines={name: score(questions, each, judge, bootstrap=0) for name, each in blind.items()},
            prior_source=source,
            facts=[
                *_model_facts(recorded),
                ("predictions", f"{predictions.name}, sha256 {file_sha256(predictions)[:12]}"),
                ("annotations", f"{annotations.name}, sha256 {file_sha256(annotations)[:12]}"),
                ("judge", judge.name),
            ],
            threshold=float(threshold) if isinstance(threshold, (int, float)) else None,
            remarks=_remarks(run, annotations),
        )
        data = build(page)
    write_page(out, data)


def _model_facts(recorded: dict[str, dict[str, Any]] | None) -> list[tuple[str, str]]:
    if recorded is None:
        return [("model", "not recorded")]
    run, bundle = (
        recorded["run"],
        recorded["bundle"] or {"name": recorded["run"].get("model", "not recorded")},
    )
    backbone = bundle.get("backbone")
    parts = backbone.values() if isinstance(backbone, dict) else [backbone] if backbone else []
    parity = bundle.get("parity")
    agreement = parity.get("decision_agreement") if isinstance(parity, dict) else None
    facts = [
        ("model", " \u00b7 ".join(str(bundle[k]) for k in ("name", "family", "precision") if k in bundle)),
        ("backbone", ", ".join(str(part) for part in parts if isinstance(part, str))),
        ("size", f"{bundle['bytes'] / 1e6:.1f} MB" if isinstance(bundle.get("bytes"), int) else ""),
        ("agrees with PyTorch", f"in {100 * agreement:.1f} % of decisions" if agreement is not None else ""),
        ("built from commit", str(bundle.get("commit", ""))[:12]),
        ("bundle.json", f"sha256 {run['bundle_sha256'][:12]}" if "bundle_sha256" in run else ""),
        ("threshold", f"speaks from a score of {run['threshold']}" if "threshold" in run else ""),
    ]
    return [fact for fact in facts if fact[1]]


def _remarks(run: dict[str, Any], annotations: Path) -> list[str]:
    asked = run.get("annotations_sha256")
    if asked is None or asked == file_sha256(annotations):
        return []
    return [f"the run answered another version of the annotations than {annotations.name}"]
