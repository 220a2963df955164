"""How many threads, and whether they should spin: vision and decoder in turns, every setting interleaved.

    python -m benchmarks.latency.threads --bundle nano --rounds 40

Run it on a quiet machine and again beside some load: spinning is what looks best alone and worst in company.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import click
import numpy as np

from benchmarks.command_line import run_command
from benchmarks.latency.facts import bundle_facts, machine_facts
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.bundle import load_bundle

LABEL_ROWS = 8
"""Rows of a silent timestep beside its visual tokens: the label, the turn's marks, the decision before."""
STEPS = 5
"""Timesteps in a row before the next setting's turn: the first finds cold caches, as after any pause."""
REST_S = 0.03
"""Before each turn: threads of the setting before may spin on for a while."""


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option("--rounds", type=click.IntRange(1), default=40, show_default=True)
@click.option("--threads", type=click.IntRange(1), multiple=True, default=(1, 2, 4), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, rounds: int, threads: tuple[int, ...], out: Path | None) -> None:
    loaded = load_bundle(bundle)
    model = loaded.model
    facts = machine_facts()
    rng = np.random.default_rng(0)
    pixels = [rng.standard_normal((1, 3, *model.image_size)).astype(np.float32) for _ in range(8)]
    rows = LABEL_ROWS + loaded.protocol.frame_tokens
    chunk = rng.standard_normal((rows, model.hidden_size)).astype(np.float32)
    start = min(rows * loaded.protocol.window_turns, model.context_rows - rows)  # a window that is full

    settings = []
    for count, spinning in itertools.product(threads, (False, True)):
        backend = OrtBackend("cpu", count, spinning=spinning)
        graphs = backend.load_vision(loaded), backend.load_decoder(loaded).open_cache()
        settings.append(
            {"threads": count, "spinning": spinning, "graphs": graphs, "vision": [], "decoder": []}
        )
    for turn in range(rounds):
        for setting in settings:
            vision, decoder = setting["graphs"]
            sleep(REST_S)
            for step in range(STEPS):
                begin = perf_counter()
                vision.run(pixels[(turn + step) % len(pixels)], None)
                seen = perf_counter()
                decoder.step(chunk, start)
                end = perf_counter()
                setting["vision"].append((seen - begin) * 1e3)
                setting["decoder"].append((end - seen) * 1e3)

    results: list[dict[str, Any]] = []
    print("milliseconds")
    print(
        f"{'threads':>8} {'spinning':>9} {'vision p50':>11} {'decoder p50':>12} {'both p50 (p25..p75)':>24}"
    )
    for setting in settings:
        both = np.add(setting["vision"], setting["decoder"]).tolist()
        row = {
            "threads": setting["threads"],
            "spinning": setting["spinning"],
            "vision_ms": summarise(setting["vision"]),
            "decoder_ms": summarise(setting["decoder"]),
            "both_ms": summarise(both),
        }
        results.append(row)
        both_text = f"{row['both_ms']['p50']:.2f} ({row['both_ms']['p25']:.2f}..{row['both_ms']['p75']:.2f})"
        print(
            f"{row['threads']:>8} {row['spinning']!s:>9} {row['vision_ms']['p50']:>11.2f} "
            f"{row['decoder_ms']['p50']:>12.2f} {both_text:>24}"
        )
    if out is not None:
        result = {"machine": facts, "bundle": bundle_facts(loaded), "settings": results}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
