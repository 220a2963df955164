"""What a timestep costs the longer a stream lasts: ours, a growing cache, and polling an offline model.

    python -m benchmarks.external.runtimes.stream --bundle nano --checkpoint runs/nano --out stream.json
    --plot stream.png

One clip, over and over, on one machine, in turns. Ours runs through the whole stream, timestep by timestep.
The others are measured at some positions of it: what they cost depends on how many rows and frames they
look at, and an hour of theirs would take hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from tqdm import tqdm

import edge_runtime
from benchmarks.external.runtimes.engines.base import KINDS, EngineSpec
from benchmarks.external.runtimes.engines.worker import Worker
from benchmarks.external.runtimes.stream_report import plot, render
from benchmarks.latency.facts import bundle_facts, machine_facts, resident_mb, write_json
from benchmarks.latency.quantiles import summarise
from benchmarks.streampro.clips import timestep_frames
from edge_runtime.backends.select import default_threads
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import EdgeError

QUERY = "Tell me each step as it is finished."
SECONDS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
SAMPLE = Path(edge_runtime.__file__).parent / "samples" / "sample.mp4"
REST_S = 0.03
"""Before each turn: threads of the side before may poll for a while."""
OURS, GROWING, POLLING, GENAI = "ours", "torch, growing cache", "torch, polling", "genai, prefilling"
_PATH: Any = click.Path(exists=True, path_type=Path)


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option("--checkpoint", type=_PATH, required=True, help="The checkpoint it was exported from.")
@click.option(
    "--genai", type=_PATH, help="Folder of onnxruntime-genai (see benchmarks.external.runtimes.prepare)."
)
@click.option("--clip", type=_PATH, default=SAMPLE, help="Any video; the shipped sample by default.")
@click.option(
    "--seconds", type=click.IntRange(2), multiple=True, default=SECONDS, help="Positions to measure at."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="At each position.")
@click.option("--threads", type=click.IntRange(1), default=default_threads, help="Of every side.")
@click.option("--max-cache-mb", type=float, default=4000.0, show_default=True, help="Of the growing cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Write a plot here (png, svg).")
def main(
    bundle: str,
    checkpoint: Path,
    genai: Path | None,
    clip: Path,
    seconds: tuple[int, ...],
    rounds: int,
    threads: int,
    max_cache_mb: float,
    out: Path | None,
    plot_path: Path | None,
) -> None:
    from benchmarks.reference.stream import EagerStream  # here, so that --help is quick

    facts = machine_facts()
    model = edge_runtime.load(bundle, threads=threads)
    torch_stream = EagerStream(checkpoint, threads)
    stream_format = model.stream_format
    positions = timesteps(seconds, stream_format.fps, rounds)
    frames = clip_frames(clip, stream_format.fps, model.bundle.model.image_size)
    with ExitStack() as stack:
        worker, absent = _open_genai(genai, torch_stream, stream_format.window_turns, threads, stack)
        session = stack.enter_context(model.session(threshold=1.0))  # silent, whatever it sees
        session.ask(QUERY)
        points: list[dict[str, Any]] = []
        all_ours: list[float] = []
        for k in tqdm(range(positions[-1]), desc="stream", unit="timestep"):
            due = next((position for position in positions if position - rounds <= k < position), None)
            if due is not None and k == due - rounds:
                points.append({"timestep": due, "times": {}, "torch_rows": None})
                _prepare(points[-1], torch_stream, due, max_cache_mb)
            decision = session.push(frames[k % len(frames)], (k + 1) / stream_format.fps)
            assert decision is not None
            all_ours.append(decision.timing["total"])
            if due is not None:
                point = points[-1]
                point["ours_rows"] = session.slots
                _take(point, OURS, decision.timing["total"])
                _others(point, torch_stream, worker, frames, k, stream_format.window_turns)
                if k == due - 1:
                    torch_stream.reset()
    result = {
        "what": "milliseconds from a frame to its decision, by time on stream",
        "machine": facts,
        "threads": threads,
        "rounds": rounds,
        "clip": clip.name,
        "fps": stream_format.fps,
        "window_turns": stream_format.window_turns,
        "bundle": bundle_facts(model.bundle),
        "trained_positions": torch_stream.max_positions,
        "growing_row_bytes": torch_stream.row_bytes,
        "resident_mb": resident_mb(),
        "ours_all": summarise(all_ours),
        "positions": [
            {
                "seconds": point["timestep"] / stream_format.fps,
                "ours_rows": point["ours_rows"],
                "torch_rows": point["torch_rows"],
                "ms": {name: summarise(times) for name, times in point["times"].items()},
            }
            for point in points
        ],
        "absent": absent,
    }
    Console(width=120).print(render(result))
    write_json(out, result)
    if plot_path is not None:
        plot(result, plot_path)


def timesteps(seconds: Sequence[int], fps: float, rounds: int) -> list[int]:
    """The timesteps that end at ``seconds``, in order; the ``rounds`` before each are those measured.

    Raises UsageError when there are not as many between two positions, or before the first.
    """
    positions, before = [0], "the start"
    for second in sorted(set(seconds)):
        positions.append(round(second * fps))
        between = positions[-1] - positions[-2]
        if between < rounds:
            raise click.UsageError(
                f"--seconds {second}: {between} timesteps after {before}, fewer than --rounds {rounds}; "
                "choose positions further apart, or fewer rounds"
            )
        before = f"--seconds {second}"
    return positions[1:]


def clip_frames(clip: Path, fps: float, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """The clip's frame of each timestep at the model's size, uint8 [H, W, 3]. Raises SourceError."""
    height, width = size
    return [
        np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        for _, frame in timestep_frames(clip, fps)
    ]


def stream_ids(stream: Any, first: int, end: int) -> list[int]:
    """The query and timesteps ``first .. end`` passed in silence: what the decoder has seen."""
    return [*stream.prompt_ids(QUERY), *stream.silent_ids(first, end)]


def _open_genai(
    folder: Path | None, torch_stream: Any, window: int, threads: int, stack: ExitStack
) -> tuple[Worker | None, list[str]]:
    """The peer, if it can be had, and a line that says why not."""
    if folder is None:
        return None, [f"{GENAI}: not measured, no --genai folder was given; {KINDS['genai'].install}"]
    spec = EngineSpec(GENAI, "genai", folder, threads, len(stream_ids(torch_stream, 0, window + 1)) + 64)
    try:
        worker = Worker(spec)
    except EdgeError as error:
        return None, [f"{GENAI}: not measured ({error})"]
    stack.callback(worker.close)
    return worker, []


def _prepare(point: dict[str, Any], torch_stream: Any, timestep: int, max_cache_mb: float) -> None:
    """Grow the cache for a position, if it may take that much room."""
    rows = len(stream_ids(torch_stream, 0, timestep))
    if rows * torch_stream.row_bytes / 1e6 <= max_cache_mb:
        torch_stream.fill(rows)
        point["torch_rows"] = rows


def _others(
    point: dict[str, Any],
    torch_stream: Any,
    worker: Worker | None,
    frames: list[NDArray[np.uint8]],
    k: int,
    window: int,
) -> None:
    """Everybody else's turn at timestep ``k``. The first call on a new cache is left out of the times."""
    if point["torch_rows"] is not None:
        sleep(REST_S)
        if GROWING not in point["times"]:
            torch_stream.probe(frames[k % len(frames)], k)
        _take(point, GROWING, torch_stream.probe(frames[k % len(frames)], k))
    first = max(0, k + 1 - window)
    sleep(REST_S)
    seen = [frames[i % len(frames)] for i in range(first, k + 1)]
    _take(point, POLLING, torch_stream.poll(QUERY, seen, k))
    if worker is not None:
        sleep(REST_S)
        if GENAI not in point["times"]:
            worker.fill([])
        _take(point, GENAI, worker.time(stream_ids(torch_stream, first, k + 1), 1)[0])
    sleep(REST_S)


def _take(point: dict[str, Any], name: str, milliseconds: float) -> None:
    point["times"].setdefault(name, []).append(milliseconds)


if __name__ == "__main__":
    run_command(main)
