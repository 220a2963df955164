"""How much faster rollouts in lock-step are than each trajectory alone and without a cache.

    python -m train.grpo.rollout_speed CHECKPOINT ANNOTATIONS

Both ways take turns in one run, on the same questions, so that whatever else the machine does meets both.
Alone, every token that the policy chooses costs a pass over the whole stream so far.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see train/__main__.py; read when torch is loaded

import torch
from torch import Tensor

from edge_runtime.command_line.exit import run_command
from train.data.dataset import Source
from train.data.encode import turn_encoder
from train.data.features import FeatureCache
from train.models.base import Visual
from train.models.checkpoint import load_checkpoint
from train.rollout.rollout import LockStep, rollout
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts, Trajectory

TASKS = ("EU", "OU", "AA", "TP", "TG", "GP", "RF")


class WithoutCache(LockStep):
    """The same, but the whole row goes through the model for every token. For a single row."""

    def _append(self, rows: Sequence[object], visual: Visual) -> Tensor:
        (row,) = self._rows
        row.take_pending()
        ids = torch.tensor([row.ids], device=self._device)
        frames = int((ids == self._encoder.image_id).sum()) // self._model.frame_tokens
        seen = self._visual.select(torch.arange(frames, device=self._device))
        return self._model.hidden(ids, seen, self._encoder.image_id)[:, -1]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, file_okay=False))
@click.argument("annotations", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cache", type=click.Path(path_type=Path), default="runs/features", show_default=True)
@click.option("--questions", default=4, show_default=True, type=click.IntRange(1))
@click.option("--group", default=8, show_default=True, type=click.IntRange(1), help="Trajectories of each.")
@click.option("--alone", default=2, show_default=True, type=click.IntRange(1), help="Trajectories, a round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--precision", default="bf16", show_default=True, type=click.Choice(["bf16", "fp32"]))
@click.option("--threads", default=0, help="0: as many as torch likes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write.")
def main(
    checkpoint: Path,
    annotations: Path,
    cache: Path,
    questions: int,
    group: int,
    alone: int,
    rounds: int,
    precision: str,
    threads: int,
    out: Path | None,
) -> None:
    """Trajectories a second of CHECKPOINT on ANNOTATIONS: in lock-step, and one by one without a cache."""
    if threads:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_checkpoint(checkpoint)
    model = loaded.model.to(device).eval()
    constraints = TokenConstraints(
        turn_encoder(loaded.stream_format, loaded.tokenizer),
        loaded.tokenizer,
        model.embedding.num_embeddings,
        threshold=loaded.stream_format.threshold,
    )
    features = FeatureCache(cache, loaded.stream_format.fps, vision=model.vision)
    prompts = Prompts((Source(annotations, tasks=TASKS),), features, seed=1)
    chosen = [prompts[i] for i in range(questions)]
    generator = torch.Generator(device).manual_seed(0)
    bf16 = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def timed(way: str) -> tuple[float, float, int]:
        """Trajectories a second, seconds of processor time and tokens of one trajectory."""
        started, processor = time.perf_counter(), time.process_time()
        made: list[Trajectory] = []
        if way == "lock_step":
            for trajectories in rollout(model, constraints, chosen, group=group, generator=generator):
                made += trajectories
        else:
            for i in range(alone):
                prompt = chosen[i % questions]
                [[trajectory]] = WithoutCache(model, constraints, [prompt], 1, generator).run()
                made.append(trajectory)
        seconds = time.perf_counter() - started
        processor = (time.process_time() - processor) / len(made)
        return len(made) / seconds, processor, sum(len(t.ids) for t in made) // len(made)

    rates: dict[str, list[float]] = {"lock_step": [], "alone": []}
    processor: dict[str, list[float]] = {"lock_step": [], "alone": []}
    tokens: dict[str, list[int]] = {"lock_step": [], "alone": []}
    with torch.no_grad(), bf16:
        rollout(model, constraints, chosen[:1], generator=generator)  # warm up
        for number in range(rounds):
            for way in rates:
                rate, cpu_s, length = timed(way)
                processor[way].append(cpu_s)
                rates[way].append(rate)
                tokens[way].append(length)
                click.echo(f"round {number + 1}: {way.replace('_', '-')} {rate:.3f} trajectories/s", err=True)
    medians = {way: statistics.median(values) for way, values in rates.items()}
    result = {
        "checkpoint": str(checkpoint),
        "questions": questions,
        "group": group,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "cpu",
        "torch": torch.__version__,
        "tokens_per_trajectory": {way: statistics.median(values) for way, values in tokens.items()},
        "trajectories_per_s": medians,
        "cpu_s_per_trajectory": {way: statistics.median(values) for way, values in processor.items()},
        "all_rounds": rates,
        "ratio": medians["lock_step"] / medians["alone"],
    }
    text = json.dumps(result, indent=2)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    run_command(main)
