"""CPU threads per graph, and when they poll for work: time and processor time, alone and in company.

    python -m benchmarks.latency.threads --bundle nano --rounds 20

A step is one frame through vision and decoder. Every setting takes its turn in every round, alone and beside
busy processes: polling gains most on an idle machine and costs most on a busy one. Run it on a quiet machine.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.latency.facts import bundle_facts, machine_facts
from benchmarks.latency.quantiles import summarise
from edge_runtime.atomic_write import write_whole
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.backends.select import default_threads
from edge_runtime.backends.spinning import SPINNING, Spinning
from edge_runtime.bundle.manifest import Bundle, load_bundle
from edge_runtime.command_line.exit import run_command

LABEL_ROWS = 8
"""Rows of a silent timestep beside its visual tokens: the label, the turn's marks, the decision before."""
STEPS = 5
"""Timesteps in a row before the next setting's turn: the first finds cold caches, as after any pause."""
REST_S = 0.1
"""Before each turn: threads of the setting before may poll on for tens of milliseconds."""


@dataclass(frozen=True)
class Setting:
    """What is compared."""

    threads: int
    spinning: Spinning


@dataclass(frozen=True)
class Condition:
    """What it is compared under."""

    neighbours: int
    """Processes that compute without pause."""
    idle_ms: float
    """Between two steps."""


@dataclass
class Measured:
    """Milliseconds of each step, and of processor time of each step with the idle time after it."""

    vision: list[float] = field(default_factory=list)
    decoder: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Graphs:
    """Vision and decoder of a bundle under one setting, with a full window."""

    def __init__(self, bundle: Bundle, setting: Setting) -> None:
        model = bundle.model
        rng = np.random.default_rng(0)
        rows = LABEL_ROWS + bundle.stream_format.frame_tokens
        self._pixels: list[NDArray[np.float32]] = [
            rng.standard_normal((1, 3, *model.image_size)).astype(np.float32) for _ in range(8)
        ]
        self._chunk = rng.standard_normal((rows, model.hidden_size)).astype(np.float32)
        self._start = min(rows * bundle.stream_format.window_turns, model.context_rows - rows)
        backend = OrtBackend("cpu", setting.threads, spinning=setting.spinning)
        self._vision = backend.load_vision(bundle)
        self._cache = backend.load_decoder(bundle).open_cache()

    def take_steps(self, measured: Measured, idle_ms: float) -> None:
        """``STEPS`` steps, each followed by ``idle_ms``."""
        cpu = process_time()
        for step in range(STEPS):
            begin = perf_counter()
            self._vision.run(self._pixels[step % len(self._pixels)], None)
            seen = perf_counter()
            self._cache.step(self._chunk, self._start)
            end = perf_counter()
            sleep(idle_ms / 1e3)
            measured.vision.append((seen - begin) * 1e3)
            measured.decoder.append((end - seen) * 1e3)
        measured.cpu.append((process_time() - cpu) * 1e3 / STEPS)


@contextmanager
def busy(processes: int) -> Iterator[Neighbours]:
    """Stopped processes, to be woken. They end with the block."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        neighbours = Neighbours(started)
        neighbours.wake(0)
        yield neighbours
    finally:
        for process in started:
            process.kill()
            process.wait()


class Neighbours:
    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self.processes = processes

    def wake(self, count: int) -> None:
        """The first ``count`` compute, the others are stopped."""
        for number, process in enumerate(self.processes):
            process.send_signal(signal.SIGCONT if number < count else signal.SIGSTOP)


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), multiple=True, help="May be repeated.  [default: chosen]")
@click.option(
    "--neighbours", type=click.IntRange(0), multiple=True, default=(0, 1, 2), help="Busy processes beside it."
)
@click.option(
    "--idle-ms", type=click.FloatRange(0), multiple=True, default=(0.0, 100.0), help="Between two steps."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    bundle: str,
    rounds: int,
    threads: tuple[int, ...],
    neighbours: tuple[int, ...],
    idle_ms: tuple[float, ...],
    out: Path | None,
) -> None:
    loaded = load_bundle(bundle)
    facts = machine_facts()
    counts = threads or (default_threads(),)
    settings = [Setting(*pair) for pair in itertools.product(counts, SPINNING)]
    conditions = [Condition(*pair) for pair in itertools.product(sorted(set(neighbours)), idle_ms)]
    rows = measure(loaded, settings, conditions, rounds)
    Console(width=110).print(render(rows))
    if out is not None:
        result = {"machine": facts, "bundle": bundle_facts(loaded), "rounds": rounds, "rows": rows}
        write_whole(out, [json.dumps(result, indent=2), "\n"])


def measure(
    bundle: Bundle, settings: Sequence[Setting], conditions: Sequence[Condition], rounds: int
) -> list[dict[str, Any]]:
    """One row for each condition and setting."""
    graphs = {setting: Graphs(bundle, setting) for setting in settings}
    measured = {pair: Measured() for pair in itertools.product(conditions, settings)}
    order = random.Random(0)
    with busy(max(condition.neighbours for condition in conditions)) as neighbours:
        for _ in tqdm(range(rounds), unit="round", leave=False):
            for condition in conditions:
                neighbours.wake(condition.neighbours)
                for setting in order.sample(list(settings), len(settings)):
                    sleep(REST_S)
                    graphs[setting].take_steps(measured[condition, setting], condition.idle_ms)
    return [
        {
            "neighbours": condition.neighbours,
            "idle_ms": condition.idle_ms,
            "threads": setting.threads,
            "spinning": setting.spinning,
            "vision_ms": summarise(one.vision),
            "decoder_ms": summarise(one.decoder),
            "step_ms": summarise(np.add(one.vision, one.decoder).tolist()),
            "cpu_ms": summarise(one.cpu),
        }
        for (condition, setting), one in measured.items()
    ]


def render(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Milliseconds of a step; processor time of a step with the idle time after it")
    for name in ("neighbours", "idle", "threads", "spinning"):
        table.add_column(name, justify="right")
    for name in ("vision p50", "decoder p50", "step p50 (p25..p75)", "p90", "CPU p50"):
        table.add_column(name, justify="right")
    for row in rows:
        step = row["step_ms"]
        table.add_row(
            str(row["neighbours"]),
            f"{row['idle_ms']:g}",
            str(row["threads"]),
            row["spinning"],
            f"{row['vision_ms']['p50']:.2f}",
            f"{row['decoder_ms']['p50']:.2f}",
            f"{step['p50']:.2f} ({step['p25']:.2f}..{step['p75']:.2f})",
            f"{step['p90']:.2f}",
            f"{row['cpu_ms']['p50']:.1f}",
        )
    return table


if __name__ == "__main__":
    run_command(main)
