"""``python -m train.synthetic.sprites generate``: clips with exact ground truth, no download needed."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_runtime.command_line.exit import run_command
from train.synthetic.sprites.generate import SPLITS, WorldConfig, generate
from train.synthetic.sprites.negatives import write_negatives


@click.group()
def main() -> None:
    """Generated videos with exact ground truth for all seven tasks."""


@main.command("generate")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Same seed, same clips.")
@click.option("--count", type=click.IntRange(min=1), required=True, help="Number of clips.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True)
@click.option(
    "--fps",
    type=click.FloatRange(min=1, max=60),
    default=10.0,
    show_default=True,
    help="Frame rate of clips.",
)
@click.option("--crf", type=click.IntRange(0, 51), default=23, show_default=True, help="H.264 quality.")
@click.option("--watched-only", is_flag=True, help="Write only the frames that a model at 1 fps watches.")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True)
def generate_command(
    seed: int, count: int, out: Path, split: str, fps: float, crf: int, watched_only: bool, workers: int
) -> None:
    """Write clips (H.264) and annotations.jsonl; goes on where a stopped run was."""
    try:
        path = generate(WorldConfig(seed, count, out, split, fps, crf, watched_only), workers)
    except OSError as error:
        raise click.ClickException(
            f"cannot write to {out}: {error.strerror or error}; choose another --out"
        ) from None
    except KeyboardInterrupt:
        click.echo("stopped; run the same command again to go on", err=True)
        raise SystemExit(130) from None
    click.echo(str(path))


@main.command("negatives")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Of the clips.")
@click.option("--count", type=click.IntRange(min=1), required=True, help="Number of clips.")
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write, beside annotations.jsonl.",
)
def negatives_command(seed: int, count: int, split: str, out: Path) -> None:
    """Write questions about what never happens in clips that `generate` made, where silence is right."""
    click.echo(f"{write_negatives(split, seed, count, out)} questions: {out}")


if __name__ == "__main__":
    run_command(main)
