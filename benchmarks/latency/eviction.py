"""What an eviction costs: kept rows move down and their keys turn, beside a plain copy of the same bytes.

    python -m benchmarks.latency.eviction --rows 2048
    python -m benchmarks.latency.eviction --bundle nano

One block of turns leaves behind a pinned prefix, and everything after it moves. Sizes are SmolLM2-135M's
unless a bundle is named: then it is the bundle's own cache in the engine. With M-RoPE rows turn by fewer
positions than they move. Settings take turns; processor time is told beside elapsed time, which other
programs share.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import click
import numpy as np

from benchmarks.command_line import run_command
from benchmarks.latency.facts import bundle_facts, machine_facts
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.bundle import load_bundle
from edge_runtime.rotary import inverse_frequencies, move_rows
from edge_runtime.window import Move

SMOLLM2 = (30, 2, 3, 64)
"""Layers, keys and values, key heads, head width."""
THETA = 100_000.0
PINNED = 64


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", help="Bundle name or folder, whose own cache is moved.")
@click.option("--rows", type=click.IntRange(128), default=2048, show_default=True, help="Rows in use.")
@click.option("--block", type=click.IntRange(1), default=256, show_default=True, help="Rows that leave.")
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str | None, rows: int, block: int, rounds: int, out: Path | None) -> None:
    if block >= rows - PINNED:
        raise click.UsageError(f"--block {block}: fewer than {rows - PINNED} of {rows} rows can leave")
    if bundle is None:
        settings, facts = _synthetic(rows, block), {}
    else:
        loaded = load_bundle(bundle)
        if rows > loaded.model.context_rows:
            raise click.UsageError(
                f"--rows {rows}: the cache of {loaded.name} has {loaded.model.context_rows}"
            )
        facts = bundle_facts(loaded)
        cache = OrtBackend("cpu", 1).load_decoder(loaded).open_cache()
        moves = _moves(rows, block, None)
        settings = {"bundle": lambda: cache.move_rows(moves)}
    measured: dict[str, dict[str, list[float]]] = {
        name: {"elapsed_ms": [], "processor_ms": []} for name in settings
    }
    for _ in range(rounds):
        for name, run in settings.items():
            begin, began = perf_counter(), thread_time()
            run()
            measured[name]["processor_ms"].append((thread_time() - began) * 1e3)
            measured[name]["elapsed_ms"].append((perf_counter() - begin) * 1e3)
    result = {
        "rows": rows,
        "block": block,
        "machine": machine_facts(),
        **facts,
        "settings": {
            name: {clock: summarise(values) for clock, values in clocks.items()}
            for name, clocks in measured.items()
        },
    }
    for name, clocks in measured.items():
        elapsed, processor = (float(np.median(clocks[clock])) for clock in ("elapsed_ms", "processor_ms"))
        click.echo(f"{name:<14} {elapsed:7.2f} ms elapsed, {processor:6.2f} ms of a processor")
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _moves(rows: int, block: int, turn: int | None) -> list[Move]:
    return [Move(PINNED + block, PINNED, rows - PINNED - block, turn)]


def _synthetic(rows: int, block: int) -> dict[str, Callable[[], Any]]:
    """Caches of SmolLM2's sizes, [L, 2, Hkv, C, Dh] as the runtime keeps them."""
    layers, two, heads, width = SMOLLM2
    rng = np.random.default_rng(0)
    frequencies = inverse_frequencies(width, THETA)
    settings: dict[str, Callable[[], Any]] = {}
    for name, dtype in (("float32", np.float32), ("float16", np.float16)):
        cache = rng.standard_normal((layers, two, heads, rows, width), np.float32).astype(dtype)
        for kind, turn in (("", None), (" M-RoPE", -block // 4)):
            moves = _moves(rows, block, turn)
            settings[name + kind] = lambda cache=cache, moves=moves: move_rows(
                cache[:, 0], cache[:, 1], moves, frequencies
            )
        kept = np.empty_like(cache[:, :, :, PINNED + block :])
        settings[f"{name} copy"] = lambda cache=cache, kept=kept: np.copyto(
            kept, cache[:, :, :, PINNED + block :]
        )
    return settings


if __name__ == "__main__":
    run_command(main)
