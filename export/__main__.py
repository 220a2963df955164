"""``python -m export CHECKPOINT --out BUNDLE``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from edge_runtime.errors import EdgeError


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@click.option("--name", help="Name of the model; the folder's name by default.")
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp32"]),
    default="int8",
    show_default=True,
    help="Of the decoder's weights; the vision network is stored in fp16 and computed in fp32.",
)
@click.option(
    "--context-rows",
    type=click.IntRange(min=64),
    help="Tokens that the cache holds; enough for the protocol's window of turns by default.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Decision threshold the bundle carries, chosen on validation clips; the checkpoint's by default.",
)
@click.option(
    "--parity-timesteps",
    type=click.IntRange(min=0),
    default=512,
    show_default=True,
    help="Length of the stream over which the bundle is compared with PyTorch; 0 leaves it out.",
)
def main(
    checkpoint: Path,
    out: Path,
    name: str | None,
    precision: str,
    context_rows: int | None,
    threshold: float | None,
    parity_timesteps: int,
) -> None:
    """Turn the folder CHECKPOINT that training wrote into a bundle that edge-run loads."""
    started = time.monotonic()

    def progress(step: str) -> None:
        click.echo(f"[{time.monotonic() - started:6.1f} s] {step}", err=True)

    progress("loading PyTorch")
    try:
        from export.bundle_writer import export_bundle  # here, so that --help is quick

        folder = export_bundle(
            checkpoint,
            out,
            precision,
            context_rows,
            name=name,
            threshold=threshold,
            parity_timesteps=parity_timesteps,
            progress=progress,
        )
    except EdgeError as error:
        click.echo(f"export: {error}", err=True)
        sys.exit(error.exit_code)
    except ImportError as error:
        click.echo(f"export: {error}; install with: pip install 'streampro-edge[export,backbone]'", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"export: {out}: {error.strerror or error}", err=True)
        sys.exit(1)
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    if "parity" in manifest:
        parity = manifest["parity"]
        progress(
            f"parity with {parity['against']} over {parity['timesteps']} timesteps: decisions agree "
            f"{parity['decision_agreement']:.2%}, KL {parity['kl_mean']:.2g}, "
            f"logits within {parity['logit_max_abs_diff']:.3g}"
        )
    size = sum(spec["bytes"] for spec in manifest["files"].values())
    progress(f"done, {size / 1e6:.1f} MB")
    click.echo(folder)


if __name__ == "__main__":
    main()
