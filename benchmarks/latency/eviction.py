"""What an eviction costs: rows from the end fill the gap and keys turn, beside a plain copy of what stays.

    python -m benchmarks.latency.eviction --rows 2048
    python -m benchmarks.latency.eviction --bundle nano

A window of turns behind a pinned prompt runs full again and again, and each time a block of turns leaves.
Sizes are SmolLM2-135M's unless a bundle is named: then it is the bundle's own cache in the engine. With
M-RoPE a row of a frame is less than a position. A graph has angles for more positions than rows, and keys
turn back all at once when they end: that is in the mean and is the largest; ``near`` has no more angles than
rows, as bundles had before. Settings take turns; processor time is reported beside elapsed time, which other
programs share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import click
import numpy as np

from benchmarks.latency.facts import bundle_facts, machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.command_line.exit import run_command
from edge_runtime.kv_cache.eviction import CacheSlots
from edge_runtime.kv_cache.host_store import HostStore
from edge_runtime.kv_cache.rope import inverse_frequencies
from edge_runtime.kv_cache.window import EvictionPlan, KVWindow

SMOLLM2 = (30, 2, 3, 64)
"""Layers, keys and values, key heads, head width."""
THETA = 100_000.0
LAPS = 4
"""Positions with angles, in rows of the cache, as the exporter has it."""
PINNED = 64
TURN = 17
"""Rows of a silent turn; one in twelve holds some words more."""


class Stream:
    """A window that runs full; ``begin`` gets the slots to write, ``evict`` those that leave."""

    def __init__(
        self,
        rows: int,
        block: int,
        begin: Callable[[int], Any],
        evict: Callable[[EvictionPlan], None],
        *,
        mrope: bool = False,
    ) -> None:
        self._begin, self._evict, self._mrope = begin, evict, mrope
        turns = max(block // (TURN + 1), 1)
        self._window = KVWindow(rows, max_turns=rows, evict_turns=turns)
        self._window.add("prefix", PINNED)
        begin(0)
        self._rng = np.random.default_rng(0)

    def run(self) -> dict[str, float]:
        """Appends turns until a block has to leave; times that, in ms."""
        while True:
            words = int(self._rng.integers(1, 24)) if self._rng.random() < 1 / 12 else 0
            if plan := self._window.plan_turn(TURN + words):
                break
            self._begin(self._window.slots)
            self._window.add("turn", TURN + words)
        if self._mrope:  # as edge_runtime.kv_cache.mrope gives it: a third of the rows are positions
            plan = replace(plan, moves=tuple(replace(m, delta=m.position_delta // 3) for m in plan.moves))
        began, busy = perf_counter(), thread_time()
        self._evict(plan)
        times = {
            "elapsed_ms": (perf_counter() - began) * 1e3,
            "processor_ms": (thread_time() - busy) * 1e3,
        }
        self._window.apply(plan)
        return times


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", help="Bundle name or folder, whose own cache it is.")
@click.option("--rows", type=click.IntRange(128), default=2048, show_default=True, help="Rows of the cache.")
@click.option("--block", type=click.IntRange(1), default=256, show_default=True, help="Rows that leave.")
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
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
        settings = {"bundle": Stream(rows, block, lambda start: None, cache.evict).run}
    measured: dict[str, dict[str, list[float]]] = {
        name: {"elapsed_ms": [], "processor_ms": []} for name in settings
    }
    for _ in range(rounds):
        for name, run in settings.items():
            for clock, value in run().items():
                measured[name][clock].append(value)
    result = {
        "rows": rows,
        "block": block,
        "machine": machine_facts(),
        **facts,
        "settings": {
            name: {
                clock: {**summarise(values), "mean": round(float(np.mean(values)), 4)}
                for clock, values in clocks.items()
            }
            for name, clocks in measured.items()
        },
    }
    for name, clocks in measured.items():
        elapsed, busy = np.median(clocks["elapsed_ms"]), clocks["processor_ms"]
        click.echo(
            f"{name:<16} {elapsed:7.2f} ms elapsed; of a processor {np.median(busy):6.2f} ms, "
            f"mean {np.mean(busy):6.2f}, largest {np.max(busy):6.2f}"
        )
    write_json(out, result)


def _synthetic(rows: int, block: int) -> dict[str, Callable[[], dict[str, float]]]:
    """Caches of SmolLM2's sizes, [L, 2, Hkv, C, Dh] as the runtime keeps them."""
    layers, two, heads, width = SMOLLM2
    rng = np.random.default_rng(0)
    settings: dict[str, Callable[[], dict[str, float]]] = {}
    for name in ("float32", "float16", "int8"):
        noise = rng.standard_normal((layers, two, heads, rows, width), np.float32)
        scales = np.full((layers, two, heads, 1, width), 5 / 127, np.float32) if name == "int8" else None
        stored = (noise * 25 if name == "int8" else noise).astype(name)
        for kind, positions in (("", LAPS * rows), (" M-RoPE", LAPS * rows), (" near", rows)):
            cache = CacheSlots(
                HostStore(stored.copy(), scales), rows, positions, inverse_frequencies(width, THETA)
            )
            stream = Stream(rows, block, cache.begin, cache.evict, mrope=kind == " M-RoPE")
            settings[name + kind] = stream.run
        settings[f"{name} copy"] = _copy(stored[:, :, :, PINNED + block :])
    return settings


def _copy(kept: np.ndarray) -> Callable[[], dict[str, float]]:
    target = np.empty_like(kept)

    def run() -> dict[str, float]:
        began, busy = perf_counter(), thread_time()
        np.copyto(target, kept)
        return {"elapsed_ms": (perf_counter() - began) * 1e3, "processor_ms": (thread_time() - busy) * 1e3}

    return run


if __name__ == "__main__":
    run_command(main)
