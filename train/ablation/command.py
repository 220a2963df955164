"""``python -m train compare``: the trials of a comparison, one after the other or several at a time."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("comparison", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Results folder."
)
@click.option("--parallel", default=1, show_default=True, type=click.IntRange(1), help="Trials at a time.")
@click.option("--only", help="Run one trial, ARM-SEED, in this process.")
def compare(comparison: Path, out: Path, parallel: int, only: str | None) -> None:
    """Train and test the arms of COMPARISON, a TOML file, on equal seeds, steps and data.

    Writes results.json and results.md, after each trial with what is there. Ctrl-C saves what is running; the
    same command goes on.
    """
    from train.ablation.plan import load_comparison, trials
    from train.ablation.run import encode_clips, feature_folder, run_all
    from train.ablation.trial import run_trial

    settings = load_comparison(comparison)
    every = list(trials(settings, comparison, out))
    if only is None:
        encode_clips(settings, every)
        click.echo(run_all(comparison, settings, every, out, parallel))
        return
    trial = next((trial for trial in every if trial.name == only), None)
    if trial is None:
        raise click.UsageError(f"--only {only}: expected one of {', '.join(t.name for t in every)}")
    raise SystemExit(0 if run_trial(trial, settings, feature_folder(every)) else 130)
