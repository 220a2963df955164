"""``python -m train``: training from recipes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_runtime.errors import EdgeError

# Threads that wait for each other by spinning cost three times the processor time as soon as anything else
# runs on the machine. Read when torch is loaded, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@click.group()
def main() -> None:
    """Train proactive video models."""


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--resume", is_flag=True, help="Go on from the last state in the recipe's output folder.")
def sft(recipe: Path, resume: bool) -> None:
    """Supervised training by RECIPE, a TOML file (see train/recipes)."""
    from train.data.features import FeatureError
    from train.model.checkpoint import CheckpointError
    from train.recipe import RecipeError, load_recipe
    from train.sft import run_sft
    from train.trainer import TrainingError

    try:
        finished = run_sft(load_recipe(recipe), resume=resume)
    except (RecipeError, CheckpointError, FeatureError, TrainingError, EdgeError) as error:
        raise click.ClickException(str(error)) from error
    raise SystemExit(0 if finished else 130)


if __name__ == "__main__":
    main()
