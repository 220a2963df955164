"""``python -m benchmarks.export --size 2b --precision int4 --work FOLDER``: peak memory, disk and time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.export.checkpoint import SIZES, write_checkpoint

_TARGETS = {"int4": "ort-cpu", "int8": "ort-cpu", "fp32": "ort-cpu", "fp16": "tensorrt-rtx"}


@dataclass(frozen=True)
class Cost:
    """Of one export, which ran in a process of its own."""

    size: str
    parameters: int
    target: str
    precision: str
    seconds: float
    peak_rss: int
    """Bytes, as the kernel counts them (ru_maxrss): mapped pages of the checkpoint too."""
    checkpoint: int
    """Bytes on disk, as ``bundle``."""
    bundle: int
    parity: dict[str, object] | None
    layer_parity: dict[str, object] | None


@click.command()
@click.option("--size", type=click.Choice(list(SIZES)), default="2b", show_default=True)
@click.option(
    "--layers", type=click.IntRange(min=1), help="Of the decoder, fewer than the published model has."
)
@click.option("--precision", "precisions", multiple=True, type=click.Choice(list(_TARGETS)), default=["int4"])
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for large files.")
@click.option("--parity-timesteps", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--keep", is_flag=True, help="Leave the checkpoint, and use one that is there.")
@click.option("--threshold", type=float, help="Of the bundle; a high one lets random weights be silent.")
def main(
    size: str,
    layers: int | None,
    precisions: tuple[str, ...],
    work: Path,
    parity_timesteps: int,
    keep: bool,
    threshold: float | None,
) -> None:
    """Write a checkpoint with random weights, export it, and print one JSON line for each precision."""
    checkpoint = work / (f"qwen3-vl-{size}" + (f"-{layers}-layers" if layers else ""))
    if not checkpoint.is_dir():
        write_checkpoint(checkpoint, size, layers)
    try:
        for precision in precisions:
            options = ["--parity-timesteps", str(parity_timesteps)]
            if threshold is not None:
                options += ["--threshold", str(threshold)]
            click.echo(json.dumps(asdict(measure(checkpoint, size, precision, options))))
    finally:
        if not keep:
            shutil.rmtree(checkpoint)


def measure(checkpoint: Path, size: str, precision: str, options: list[str]) -> Cost:
    """Export ``checkpoint`` in a process of its own; the bundle is deleted. Raises ClickException."""
    out = checkpoint.with_name(f"{checkpoint.name}-{precision}")
    target = _TARGETS[precision]
    command = [sys.executable, "-m", "export", str(checkpoint), "--out", str(out), "--format", "prompted"]
    command += ["--target", target, "--precision", precision, *options]
    started = time.monotonic()
    try:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise click.ClickException(f"the export of {checkpoint} ended with status {status}")
        manifest = json.loads((out / "bundle.json").read_text(encoding="utf-8"))
        return Cost(
            size,
            _parameters(checkpoint),
            target,
            precision,
            round(time.monotonic() - started, 1),
            usage.ru_maxrss * 1024,
            _bytes(checkpoint),
            _bytes(out),
            manifest.get("parity"),
            manifest.get("layer_parity"),
        )
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _parameters(folder: Path) -> int:
    from export.published.sizes import count_parameters

    return count_parameters(folder)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
