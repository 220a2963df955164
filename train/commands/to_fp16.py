"""``python -m train to-fp16``: a checkpoint in half the space, to be kept or given away."""

from __future__ import annotations

from pathlib import Path

import click

from train.models.registry import OUT


@click.command("to-fp16")
@click.argument("checkpoint", type=click.Path(path_type=Path, file_okay=False))
@OUT
def to_fp16(checkpoint: Path, out: Path) -> None:
    """Write CHECKPOINT, of the compact family, with its weights, or its LoRA adapters, as float16.

    It loads as float32 wherever a checkpoint does; the recipe that made it and its figures stay in it.
    """
    from train.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

    loaded = load_checkpoint(checkpoint, merge=False)
    model, config = loaded.model, loaded.config
    if not model.stored_as_fp16:
        raise CheckpointError(f"{checkpoint}: is of family {model.family}, which is not stored as float16")
    model.half()
    about = config["tasks"], config["recipe"], config["metrics"]
    save_checkpoint(out, model, loaded.tokenizer, loaded.stream_format, *about, loaded.knowledge)
    click.echo(str(out))
