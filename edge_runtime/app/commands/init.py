"""``edge-run init``: writes a configuration to start from."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_runtime.config.schema import FILE_NAME
from edge_runtime.errors import ConfigError
from edge_runtime.video.samples import SAMPLES


@click.command("init")
@click.argument("file", type=click.Path(path_type=Path), default=FILE_NAME, metavar="[FILE]")
@click.option("--force", is_flag=True, help="Replace FILE when it is there already.")
def init(file: Path, force: bool) -> int:
    """Write a commented edge-run.toml to start from.

    FILE is edge-run.toml in this folder unless another one is given.
    """
    text = (SAMPLES / FILE_NAME).read_text(encoding="utf-8")
    try:
        with file.open("w" if force else "x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        remedy = "name another file" if os.path.isdir(file) else "--force replaces it"
        raise ConfigError(f"{file}: is there already; {remedy}") from None
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        raise ConfigError(f"{file}: cannot be written: {reason}; name another file") from err
    option = "" if file == Path(FILE_NAME) else f" --config {file}"
    click.echo(f"{file} is written; edit it, then: edge-run check{option}, edge-run front{option}", err=True)
    return 0
