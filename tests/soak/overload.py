"""A camera five times as fast as the model: how old is a frame when the model gets it?

    python -m tests.soak.overload --seconds 30 --out overload.json

A real RTSP camera on loopback at 30 frames a second, each of which is a timestep, and the real model with as
many questions as make one timestep last `--factor` frame intervals. No frame may be older, when the model
takes it, than one frame interval and the time of the timestep before it; nor may ages grow. Ends with code 1
when one is.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import edge_runtime
from benchmarks.latency.facts import machine_facts
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import SourceError
from tests.soak.rtsp_server import RtspServer

FPS = 30
QUERY = "Tell me each step as it is finished."
_CALIBRATION = 20
_WARM_UP = 5
_PATIENCE_S = 60.0
"""For the frames of the calibration."""


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", default="nano", show_default=True, help="Bundle name or folder.")
@click.option("--factor", type=click.FloatRange(1), default=5.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of the model.  [default: chosen]")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, factor: float, seconds: float, threads: int | None, out: Path | None) -> None:
    model = edge_runtime.load(bundle, threads=threads).with_fps(FPS)
    with RtspServer("--fps", str(FPS)) as server:
        result = measure(model, server.url, factor, seconds)
    click.echo(json.dumps(result, indent=2))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if result["passed"] else 1)


def measure(model: Any, url: str, factor: float, seconds: float) -> dict[str, Any]:
    """Watch ``url`` for ``seconds``. Ages and times in ms. Raises EdgeError, for too few frames too."""
    from pipelines.camera import open_camera

    height, width = model.bundle.model.image_size
    vision, sessions = model.open_vision(), [_session(model)]
    seeing: list[float] = []
    deciding: list[float] = []
    ages: list[float] = []
    times: list[float] = []
    indices: list[int] = []
    end = time.monotonic() + _PATIENCE_S
    with open_camera(url, fps=float(FPS), size=(width, height)) as camera:
        while time.monotonic() < end:
            item = camera.read(1.0)
            if item is None or not hasattr(item, "image"):
                continue
            begin = time.monotonic()
            tokens = vision.encode(vision.preprocess(item.image))
            seen = time.monotonic()
            for session in sessions:
                session.push_tokens(tokens, item.index)
            now = time.monotonic()
            if len(deciding) < _CALIBRATION:
                seeing.append(seen - begin)
                deciding.append(now - seen)
                if len(deciding) == _CALIBRATION:
                    lacking = factor / FPS - float(np.median(seeing))
                    count = max(1, math.ceil(lacking / float(np.median(deciding))))
                    sessions += [_session(model) for _ in range(count - 1)]
                    end = now + seconds
                continue
            ages.append((begin - item.captured_at) * 1e3)
            times.append(now - begin)
            indices.append(item.index)
    if len(deciding) < _CALIBRATION:
        raise SourceError(
            f"{url}: {len(deciding)} frames within {_PATIENCE_S:g} s, {_CALIBRATION} are needed to begin "
            "with; is the camera there?"
        )
    if len(ages) <= _WARM_UP:
        raise SourceError(
            f"{url}: {len(ages)} frames within {seconds:g} s, more than {_WARM_UP} are needed; "
            "raise --seconds"
        )
    ages, before = ages[_WARM_UP:], times[_WARM_UP - 1 : -1]
    offered = indices[-1] - indices[_WARM_UP - 1]
    limits = [1e3 / FPS + 1e3 * took for took in before]
    over = [age - limit for age, limit in zip(ages, limits, strict=True)]
    half = len(ages) // 2
    return {
        "what": f"age of a frame when the model takes it, ms; RTSP at {FPS} a second, every frame a timestep",
        "machine": machine_facts(),
        "questions": len(sessions),
        "offered_frames": offered,
        "processed_frames": len(ages),
        "overload": round(offered / len(ages), 2),
        "age_ms": summarise(ages),
        "age_ms_p50_of_halves": [round(float(np.median(part)), 2) for part in (ages[:half], ages[half:])],
        "timestep_ms": summarise([1e3 * took for took in times[_WARM_UP:]]),
        "frame_interval_ms": round(1e3 / FPS, 2),
        "worst_against_limit_ms": round(max(over), 2),
        "passed": max(over) <= 0,
    }


def _session(model: Any) -> Any:
    session = model.session(threshold=1.0)  # silent: the time of a timestep is then the same each time
    session.ask(QUERY)
    return session


if __name__ == "__main__":
    run_command(main)
