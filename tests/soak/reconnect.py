"""A camera whose server is killed and started again, many times: is the last time as good as the first?

    python -m tests.soak.reconnect --times 100 --out reconnect.json

A real RTSP server on loopback gets SIGKILL while its pictures are watched, stays away for `--down` seconds
and comes back on the same port. Measured: seconds from the server's return to the first decoded picture
(`live`), the growth of memory, threads and open files. Python's collector is left to its own pace: what a
lost connection held must go without it. Ends with code 1 when a limit is missed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from benchmarks.latency.facts import machine_facts, write_json
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import SourceError
from tests.soak.process import Holdings, allocated_mb, holdings, slope
from tests.soak.rtsp_server import RtspServer

MAX_RECOVERY_P95_S = 3.0
MAX_GROWTH_MB = 1.0
"""Of memory, per 100 reconnects."""
MAX_MORE_THREADS = 2
MAX_MORE_FILES = 4
_PATIENCE_S = 30.0


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--times", type=click.IntRange(2), default=100, show_default=True)
@click.option("--down", type=click.FloatRange(0), default=0.2, show_default=True, help="Seconds it is away.")
@click.option("--up", type=click.FloatRange(0), default=0.5, show_default=True, help="Seconds it is watched.")
@click.option("--warm-up", type=click.IntRange(0), help="Reconnects before memory counts.  [default: 20 %]")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(times: int, down: float, up: float, warm_up: int | None, out: Path | None) -> None:
    with RtspServer() as server:
        result = measure(
            server, times, down_s=down, up_s=up, warm_up=times // 5 if warm_up is None else warm_up
        )
    shown = {key: value for key, value in result.items() if key != "readings"}
    click.echo(json.dumps(shown, indent=2))
    write_json(out, result)
    sys.exit(0 if result["passed"] else 1)


def measure(server: RtspServer, times: int, *, down_s: float, up_s: float, warm_up: int) -> dict[str, Any]:
    """Kill and start ``server`` (which runs) ``times`` times under one camera. Raises SourceError."""
    from pipelines.camera import CameraOptions, open_camera

    recovery, readings, allocated, order = [], [], [], True
    # Here each connection lives shorter than the 10 s after which one counts as good; so that waits start
    # short again all the same, as they do with a camera that works for an hour:
    options = CameraOptions(stable_s=0.0)
    with open_camera(server.url, fps=5.0, options=options) as camera:
        _until(camera, "live")
        for _ in tqdm(range(times), desc="reconnects", file=sys.stderr, disable=None):
            _watch(camera, up_s)
            server.kill()
            states = _until(camera, "stalled")
            time.sleep(down_s)
            server.start()
            back = time.monotonic()
            states += _until(camera, "live")
            recovery.append(time.monotonic() - back)
            # Whatever happens in between, a loss is told before the attempts, and these before the return.
            order = order and states[0] == "stalled" and set(states[1:-1]) <= {"connecting"}
            readings.append(holdings())
            allocated.append(allocated_mb())
        reconnects = camera.reconnects
    result = _result(recovery, readings, warm_up, in_order=order and reconnects == times)
    result["allocated_mb_per_100_reconnects"] = _per_100(allocated[warm_up:])
    return result | {"down_s": down_s}


def _until(camera: Any, state: str) -> list[str]:
    """Read up to the change to ``state``; all changes met on the way. Raises SourceError if none."""
    states: list[str] = []
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        item = camera.read(0.2)
        if item is not None and not hasattr(item, "image"):
            states.append(item.state)
            if item.state == state:
                return states
    raise SourceError(f"the camera was not {state} within {_PATIENCE_S:g} s; it was {', '.join(states)}")


def _watch(camera: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        camera.read(left)


def _per_100(values: list[float]) -> float:
    return round(100 * slope(range(len(values)), values), 3)


def _result(
    recovery: list[float], readings: list[Holdings], warm_up: int, *, in_order: bool
) -> dict[str, Any]:
    counted = readings[warm_up:]
    growth = _per_100([reading.rss_mb for reading in counted])
    fifth = max(1, len(recovery) // 5)
    threads = counted[-1].threads - counted[0].threads
    files = counted[-1].files - counted[0].files
    p50, p95 = np.percentile(recovery, [50, 95])
    return {
        "what": f"{len(recovery)} reconnects to an RTSP server that is killed and started again",
        "machine": machine_facts(),
        "recovery_s": {
            "p50": round(float(p50), 3),
            "p95": round(float(p95), 3),
            "max": round(max(recovery), 3),
            "p50_first_fifth": round(float(np.median(recovery[:fifth])), 3),
            "p50_last_fifth": round(float(np.median(recovery[-fifth:])), 3),
        },
        "rss_mb_per_100_reconnects": growth,
        "rss_mb": {"after_warm_up": round(counted[0].rss_mb, 1), "at_end": round(counted[-1].rss_mb, 1)},
        "more_threads": threads,
        "more_files": files,
        "events_in_order": in_order,
        "passed": bool(
            in_order
            and p95 < MAX_RECOVERY_P95_S
            and growth < MAX_GROWTH_MB
            and threads <= MAX_MORE_THREADS
            and files <= MAX_MORE_FILES
        ),
        "readings": [vars(reading) for reading in readings],
    }


if __name__ == "__main__":
    run_command(main)
