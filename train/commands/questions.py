"""Options of the commands that put questions to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.argument("checkpoint", type=click.Path(path_type=Path, file_okay=False)),
    click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)),
    click.option(
        "--questions",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="So many of each file's, drawn by --seed; 0: all.",
    ),
    click.option("--seed", type=int, default=1, show_default=True),
    click.option(
        "--cache", type=click.Path(path_type=Path), default=Path("runs/features"), help="Of vision features."
    ),
    click.option(
        "--judge", type=click.Choice(["exact", "fields", "keywords"]), default="exact", show_default=True
    ),
)


def asks_questions(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command CHECKPOINT, FILES, --questions, --seed, --cache and --judge."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
