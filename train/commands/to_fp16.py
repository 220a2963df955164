"""``python -m train pack``: a checkpoint in half the space, to be kept or given away."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
def pack(checkpoint: Path, out: Path) -> None:
    """Write CHECKPOINT, of the compact family, with its weights, or its LoRA adapters, as float16.

    It loads as float32 wherever a checkpoint does; the recipe that made it and its figures stay in it.
    """
    from train.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

    if out.exists():
        raise click.UsageError(f"{out} is there already; choose another --out or remove it")
    loaded = load_checkpoint(checkpoint, merge=False)
    model, config = loaded.model, loaded.config
    if model.family != "compact":
        raise CheckpointError(f"{checkpoint}: is of family {model.family}; only compact models are packed")
    save_checkpoint(
        out,
        model.half(),
        loaded.tokenizer,
        loaded.stream_format,
        config["tasks"],
        config["recipe"],
        config["metrics"],
    )
    click.echo(str(out))
