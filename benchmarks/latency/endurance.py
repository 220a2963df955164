"""20,000 timesteps in a row: memory must not grow and time per timestep must not either.

    python -m benchmarks.latency.endurance --bundle nano --out endurance.json

Frames come as fast as they are processed; every 50th timestep is made to speak, so that texts of many
lengths pass through the cache. Ends with code 1 when a limit is missed: 10 MB of memory more than after the
first 500 timesteps, or a median of the last 1,000 silent timesteps 10 % above that of the first 1,000 with
a full window.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import edge_runtime
from benchmarks.latency.facts import bundle_facts, machine_facts, resident_mb
from benchmarks.latency.frames import Frames
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command

QUERY = "Tell me each step as it is finished."
SETTLED = 500
"""Timesteps after which memory is taken as the level to compare with."""
SPAN = 1000
MAX_GROWTH_MB = 10.0
MAX_SLOWDOWN = 1.10


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option("--timesteps", type=click.IntRange(2 * SPAN + SETTLED), default=20_000, show_default=True)
@click.option("--speak-every", type=click.IntRange(2), default=50, show_default=True)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads per graph; default: chosen from the machine."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, timesteps: int, speak_every: int, threads: int | None, out: Path | None) -> None:
    facts = machine_facts()
    begin = time.perf_counter()
    model = edge_runtime.load(bundle, threads=threads)
    session = model.session()
    session.ask(QUERY)
    loaded_s = time.perf_counter() - begin
    frames = Frames(model.bundle.model.image_size)

    # Allocated up front: a list of results that grows would be measured as the runtime's growth.
    wall, cpu = np.full(timesteps, np.nan), np.full(timesteps, np.nan)
    evictions = np.full(timesteps, np.nan)
    rss: list[float | None] = []
    spoke = 0
    for k in range(timesteps):
        frame = frames(k)
        session.threshold = 0.0 if k % speak_every == speak_every - 1 else 1.0
        cpu_before = time.process_time()
        decision = session.push(frame, (k + 1) / model.stream_format.fps)
        cpu_ms = (time.process_time() - cpu_before) * 1e3
        assert decision is not None
        if decision.speak:
            spoke += 1
        else:
            wall[k], cpu[k] = decision.timing["total"], cpu_ms
            evictions[k] = decision.timing.get("evict", np.nan)
        if k % SETTLED == SETTLED - 1:
            rss.append(resident_mb())

    full = max(model.stream_format.window_turns, SETTLED)  # by then also warm
    first, last = slice(full, full + SPAN), slice(timesteps - SPAN, timesteps)
    slowdown = float(np.nanmedian(wall[last]) / np.nanmedian(wall[first]))
    growth = None if rss[0] is None or rss[-1] is None else rss[-1] - rss[0]
    result: dict[str, Any] = {
        "what": f"{timesteps} timesteps in a row, milliseconds of silent ones, frame to decision",
        "machine": facts,
        "backend": model.backend,
        "bundle": bundle_facts(model.bundle),
        "timesteps": timesteps,
        "spoke": spoke,
        "load_s": round(loaded_s, 3),
        "rss_mb": {"after_500": rss[0], "at_end": rss[-1], "max": max((r for r in rss if r), default=None)},
        "rss_growth_mb": growth,
        "rss_every_500_mb": rss,
        "wall_ms": {
            "first_1000_full": _silent(wall[first]),
            "last_1000": _silent(wall[last]),
            "all": _silent(wall),
        },
        "process_cpu_ms": {"first_1000_full": _silent(cpu[first]), "last_1000": _silent(cpu[last])},
        "evict_ms": _silent(evictions),
        "slowdown": round(slowdown, 4),
        "slowdown_of_cpu_time": round(float(np.nanmedian(cpu[last]) / np.nanmedian(cpu[first])), 4),
        "limits": {"rss_growth_mb": MAX_GROWTH_MB, "slowdown": MAX_SLOWDOWN},
    }
    result["passed"] = slowdown <= MAX_SLOWDOWN and (growth is None or growth <= MAX_GROWTH_MB)
    print(json.dumps({key: value for key, value in result.items() if key != "rss_every_500_mb"}, indent=2))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if result["passed"] else 1)


def _silent(values: np.ndarray) -> dict[str, Any]:
    return summarise(values[~np.isnan(values)].tolist())


if __name__ == "__main__":
    run_command(main)
