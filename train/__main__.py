"""``python -m train``: training from recipes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_runtime.command_line.exit import run_command
from train.ablation.command import compare
from train.commands.calibrate import calibrate
from train.commands.check import check
from train.commands.init_backbone import init_backbone
from train.commands.rubrics import rubrics
from train.commands.score import score
from train.commands.to_fp16 import to_fp16

# Threads that wait for each other by spinning cost three times the processor time as soon as anything else
# runs on the machine. Read when torch is loaded, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@click.group()
def main() -> None:
    """Train proactive video models.

    An error is one line and its kind the exit status; Ctrl-C ends with 130.
    """


for command in (calibrate, check, compare, init_backbone, rubrics, score, to_fp16):
    main.add_command(command)


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--resume", is_flag=True, help="Go on from the last state in the recipe's output folder.")
def sft(recipe: Path, resume: bool) -> None:
    """Supervised training by RECIPE, a TOML file (see train/recipes)."""
    from train.sft.recipe import load_recipe
    from train.sft.run import run_sft

    finished = run_sft(load_recipe(recipe), resume=resume)
    raise SystemExit(0 if finished else 130)


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Checkpoint to write."
)
@click.option("--epochs", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("--words", type=click.IntRange(min=0), default=1500, show_default=True, help="Steps; 0: none.")
def pretrain(recipe: Path, out: Path, epochs: int, words: int) -> None:
    """Pretrain RECIPE's model on generated clips: to see what moves and what is where, and to say it.

    Started again with the same --out, it goes on with the part that was not done.
    """
    from benchmarks.metric.progress import say
    from train.pretrain.run import run_pretraining
    from train.sft.recipe import load_recipe

    run_pretraining(load_recipe(recipe), out, epochs, words, say)
    click.echo(str(out))


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--resume", is_flag=True, help="Go on from the last state in the recipe's output folder.")
def grpo(recipe: Path, resume: bool) -> None:
    """Reinforcement learning by RECIPE, a TOML file, from a supervised checkpoint."""
    from train.grpo.recipe import load_grpo_recipe
    from train.grpo.run import run_grpo

    finished = run_grpo(load_grpo_recipe(recipe), resume=resume)
    raise SystemExit(0 if finished else 130)


if __name__ == "__main__":
    run_command(main)
