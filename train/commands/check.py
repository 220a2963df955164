"""``python -m train check``: what is wrong with annotation files, and what they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from edge_runtime.errors import ConfigError


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check against its protocol and tokenizer; without FILES those of the recipe are checked.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, file_okay=False),
    help="Check against its protocol and tokenizer.",
)
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Timesteps a second.  [default: 1]")
@click.option("--clips/--no-clips", default=True, help="Look into the videos (default).")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Videos at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(
    files: tuple[Path, ...],
    recipe: Path | None,
    checkpoint: Path | None,
    fps: float | None,
    clips: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Every problem of the annotations in FILES with file and line, and statistics.

    Ends with 1 if there is a problem.

    Texts are measured in tokens when a recipe or a checkpoint says by which tokenizer.
    """
    from train.data.check import Limits, check_files
    from train.data.statistics import summarise

    if recipe and checkpoint:
        raise ConfigError("give --recipe or --checkpoint, not both")
    count, most, rate = _tokens(recipe, checkpoint)
    paths = files or _sources(recipe)
    if not paths:
        raise ConfigError("nothing to check; give annotation files or --recipe")
    limits = Limits(fps or rate, count, most)
    found = check_files(list(dict.fromkeys(paths)), limits, clips=clips, workers=workers)
    usable = {path: clip.duration for path, clip in found.clips.items() if clip.reason is None}
    statistics = summarise(found.annotations, usable, limits.fps, count)
    if as_json:
        problems = [{"file": str(p.path), "line": p.line, "problem": p.what} for p in found.problems]
        click.echo(json.dumps({"problems": problems, "statistics": statistics.to_dict()}, indent=2))
    else:
        for problem in found.problems:
            click.echo(str(problem))
        for name, value in statistics.rows():
            click.echo(f"{name:<20} {value}")
        click.echo(f"{len(found.problems)} problems" if found.problems else "no problems")
    raise SystemExit(1 if found.problems else 0)


def _sources(recipe: Path | None) -> tuple[Path, ...]:
    from train.sft.recipe import load_recipe

    if recipe is None:
        return ()
    data = load_recipe(recipe).data
    return tuple(source.path for source in (*data.train, *data.validation))


def _tokens(recipe: Path | None, checkpoint: Path | None) -> tuple[Callable[[str], int] | None, int, float]:
    """How to count a response's tokens, how many it may have, and the timesteps a second."""
    from train.data.encode import turn_encoder
    from train.models.checkpoint import load_checkpoint
    from train.sft.recipe import load_recipe
    from train.sft.run import initial_model

    if checkpoint is not None:
        loaded = load_checkpoint(checkpoint)
        stream_format, tokenizer = loaded.stream_format, loaded.tokenizer
    elif recipe is not None:
        settings = load_recipe(recipe)
        stream_format = settings.protocol
        _, tokenizer = initial_model(settings)
    else:
        return None, 0, 1.0
    encoder = turn_encoder(stream_format, tokenizer)
    fixed = 1 + len(encoder.response_end_ids)
    return (
        lambda text: len(encoder.response_ids(text)) - fixed,
        stream_format.max_response_tokens,
        stream_format.fps,
    )
