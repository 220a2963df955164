"""One silent timestep, frame to decision: this runtime against the same model in eager PyTorch.

    python -m benchmarks.latency.timestep --bundle nano --checkpoint runs/nano --out timestep.json

Both see the same frames and use as many threads. They take turns, step by step and in changing order, so that
whatever else the machine does falls on both. The runtime's cache holds the bundle's window and stays constant
from then on; the yardstick's cache grows with the stream.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import edge_runtime
from benchmarks.latency.facts import bundle_facts, machine_facts
from benchmarks.latency.frames import Frames
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.select import default_threads
from edge_runtime.command_line.exit import run_command

QUERY = "Tell me each step as it is finished."
STAGES = ("preprocess", "vision", "append", "evict", "total")


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option(
    "--checkpoint", type=click.Path(exists=True, path_type=Path), required=True, help="Its checkpoint."
)
@click.option("--timesteps", type=click.IntRange(60), default=500, show_default=True)
@click.option(
    "--rounds", type=click.IntRange(1), default=1, show_default=True, help="Streams, one after another."
)
@click.option("--threads", type=click.IntRange(1), default=default_threads, help="Threads of both sides.")
@click.option(
    "--bins", type=click.IntRange(1), default=50, show_default=True, help="Timesteps per row of the table."
)
@click.option("--gap-ms", type=float, default=3.0, show_default=True, help="Rest after each step.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    bundle: str,
    checkpoint: Path,
    timesteps: int,
    rounds: int,
    threads: int,
    bins: int,
    gap_ms: float,
    out: Path | None,
) -> None:
    from benchmarks.reference.timestep import TorchEager

    model = edge_runtime.load(bundle, threads=threads)
    torch_stream = TorchEager(checkpoint, threads)
    threshold = model.stream_format.threshold  # may be chosen at export, and costs no time
    if replace(torch_stream.stream_format, threshold=threshold) != model.stream_format:
        raise click.UsageError(
            "bundle and checkpoint have different protocols: one was not made from the other"
        )
    frames = Frames(model.bundle.model.image_size)
    samples: list[dict[str, Any]] = []
    facts = machine_facts()
    for _ in range(rounds):
        samples += _stream(model, torch_stream, frames, timesteps, gap_ms / 1e3)

    window = [s for s in samples if s["k"] < model.stream_format.window_turns]
    rows = []
    for start in range(0, timesteps, bins):
        # The first steps of all touch memory for the first time: cold start is another measurement.
        part = [s for s in samples if start <= s["k"] < start + bins and s["k"] >= 5]
        rows.append(_row(start, min(start + bins, timesteps), part))
    full = [s for s in samples if s["k"] >= model.stream_format.window_turns]
    result = {
        "what": "silent timestep, frame to decision, milliseconds",
        "machine": facts,
        "backend": model.backend,
        "threads": threads,
        "bundle": bundle_facts(model.bundle),
        "rounds": rounds,
        "spoke_and_left_out": sum(s["spoke"] for s in samples),
        "score_max_abs_diff_before_eviction": max(abs(s["score"] - s["torch_score"]) for s in window),
        "window_full": _row(model.stream_format.window_turns, timesteps, full),
        "by_timestep": rows,
    }
    _print(result)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _stream(
    model: edge_runtime.Model, torch_stream: Any, frames: Frames, timesteps: int, gap_s: float
) -> list[dict[str, Any]]:
    samples = []
    torch_stream.start(QUERY)
    with model.session(threshold=1.0) as session:
        session.ask(QUERY)
        for k in range(timesteps):
            frame = frames(k)
            for turn in range(2):
                if turn == k % 2:
                    decision = session.push(frame, (k + 1) / model.stream_format.fps)
                else:
                    torch_score, torch_ms = torch_stream.step(frame, k)
                # Worker threads of either side may spin for a while after their work; let them go to sleep.
                time.sleep(gap_s)
            assert decision is not None
            samples.append(
                {
                    "k": k,
                    "ours": decision.timing,
                    "torch": torch_ms,
                    "torch_rows": torch_stream.rows,
                    "score": decision.score,
                    "torch_score": torch_score,
                    "spoke": decision.speak,
                }
            )
    return samples


def _row(first: int, end: int, samples: list[dict[str, Any]]) -> dict[str, Any]:
    silent = [s for s in samples if not s["spoke"]]
    ours = {key: [s["ours"][key] for s in silent if key in s["ours"]] for key in STAGES}
    torch = {key: [s["torch"][key] for s in silent] for key in ("vision", "append", "total")}
    ratio = [s["torch"]["total"] / s["ours"]["total"] for s in silent]
    append_ratio = [s["torch"]["append"] / s["ours"]["append"] for s in silent]
    return {
        "timesteps": [first, end],
        "torch_rows_at_end": max((s["torch_rows"] for s in samples), default=None),
        "ours_ms": {key: summarise(values) for key, values in ours.items()},
        "torch_ms": {key: summarise(values) for key, values in torch.items()},
        "torch_over_ours": summarise(ratio),
        "torch_over_ours_append": summarise(append_ratio),
    }


def _print(result: dict[str, Any]) -> None:
    def quartiles(summary: dict[str, Any]) -> str:
        if summary["p50"] is None:
            return "not measured"
        return f"{summary['p50']:7.2f} ({summary['p25']:.2f}..{summary['p75']:.2f})"

    print(f"{result['bundle']['name']} {result['bundle']['precision']}, {result['backend']}", file=sys.stderr)
    print("p50 (quartiles) in ms, frame to decision; ratio = torch / ours per timestep")
    print(f"{'timesteps':>12} {'ours':>24} {'torch eager':>24} {'ratio':>22} {'ratio of append':>22}")
    for row in [*result["by_timestep"], result["window_full"]]:
        span = f"{row['timesteps'][0]}..{row['timesteps'][1]}"
        print(
            f"{span:>12} {quartiles(row['ours_ms']['total']):>24} {quartiles(row['torch_ms']['total']):>24} "
            f"{quartiles(row['torch_over_ours']):>22} {quartiles(row['torch_over_ours_append']):>22}"
        )
    print(
        f"largest difference of a score before the first eviction: "
        f"{result['score_max_abs_diff_before_eviction']:.4f}"
    )


if __name__ == "__main__":
    run_command(main)
