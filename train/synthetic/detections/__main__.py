"""``python -m train.synthetic.detections generate --split train --count 3000 --out data/scout/train``"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from tqdm import tqdm

from benchmarks.metric.annotations import read_annotations
from edge_runtime.bundle.stream_format import StreamFormat
from train.models.tokenizer import train_tokenizer
from train.synthetic.detections.generate import SPLITS, GenerateConfig, generate


@click.group()
def main() -> None:
    """Training data for models that read object slots."""


@main.command("generate")
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--count", type=click.IntRange(min=1), required=True, help="Clips.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option(
    "--fps", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Timesteps a second."
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
def generate_command(split: str, seed: int, count: int, out: Path, fps: float, workers: int) -> None:
    """Write clips and questions."""
    click.echo(f"{generate(GenerateConfig(split, seed, count, out, fps), workers)}")


@main.command("knowledge")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="DATA/knowledge.json or CHECKPOINT/knowledge.json",
)
def knowledge_command(out: Path) -> None:
    """Write what a model knows that is trained on this data; `generate` writes it beside the questions."""
    from train.synthetic.detections.knowledge import write_knowledge

    out.parent.mkdir(parents=True, exist_ok=True)
    write_knowledge(out)
    click.echo(f"{out}")


@main.command("measure")
@click.argument("clips", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--detector", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For CLIPS.")
@click.option("--simulated", "count", type=click.IntRange(min=0), default=150, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def measure_command(clips: tuple[Path, ...], detector: Path | None, count: int, seed: int) -> None:
    """Print how the detector errs on CLIPS beside how the simulated one does."""
    from train.synthetic.detections.measure import measure, real, simulated

    if clips and detector is None:
        raise click.UsageError(
            "CLIPS need --detector; make it with python -m train.models.perception convert"
        )
    torch.set_num_threads(1)  # the arrays of one clip are small
    columns: dict[str, dict[str, float]] = {}
    if clips and detector is not None:
        columns["real"] = measure(real(detector, clip) for clip in tqdm(clips, unit="clip"))
    if count:
        columns["simulated"] = measure(tqdm(simulated(count, seed), unit="clip", desc="simulated"))
    names = dict.fromkeys(name for column in columns.values() for name in column)
    click.echo(f"{'':52s}" + "".join(f"{name:>12s}" for name in columns))
    for name in names:
        values = (column.get(name, float("nan")) for column in columns.values())
        click.echo(f"{name:52s}" + "".join(f"{value:12.3f}" for value in values))


@main.command("tokenizer")
@click.argument("annotations", nargs=-1, type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--vocab-size", type=click.IntRange(min=1300), default=4096, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="tokenizer.json")
def tokenizer_command(annotations: tuple[Path, ...], vocab_size: int, out: Path) -> None:
    """Make a vocabulary from the questions and answers of annotation files."""
    texts = [StreamFormat().system_prompt]
    for path in annotations:
        for item in read_annotations(path):
            texts += [item.query.text, *(answer.text for answer in item.answers)]
    made = train_tokenizer(texts, vocab_size)
    out.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(out))
    click.echo(f"{out}: {made.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
