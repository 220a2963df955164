"""What a still scene costs: processor time per hour of stream, with and without leaving out timesteps.

    python -m benchmarks.latency.still --bundle nano --out still.json

A clip of a textured scene with the noise of a sensor, in which nothing moves, is watched with what
``edge-run`` is made of: camera, decision loop, one question. All settings in turns, several rounds
interleaved. The figure is processor time of this process, every thread of it, for each hour of the clip, as
fast as it goes. The cost of decoding alone stands beside it: leaving out timesteps does not lower that.
"""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import numpy as np

from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.pipeline import play
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command
from edge_runtime.engine.decision_loop import DecisionLoop
from edge_runtime.engine.model import Model
from edge_runtime.engine.still_scene import StillScene
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig

_QUERY = "Tell me each step as it is finished."
_HOUR_S = 3600.0


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", default="nano", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--seconds", type=click.IntRange(10), default=120, show_default=True, help="Length of the clip."
)
@click.option("--size", type=(click.IntRange(16), click.IntRange(16)), default=(640, 480), show_default=True)
@click.option("--fps", type=click.IntRange(1), default=5, show_default=True, help="Of the clip.")
@click.option("--timesteps", type=click.FloatRange(0.1), default=1.0, show_default=True, help="A second.")
@click.option(
    "--still-skip",
    type=click.FloatRange(0),
    multiple=True,
    default=(0.0, 10.0, 30.0),
    show_default=True,
    help="Seconds; the first is what the others are compared with. May be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    bundle: str,
    rounds: int,
    seconds: int,
    size: tuple[int, int],
    fps: int,
    timesteps: float,
    still_skip: tuple[float, ...],
    out: Path | None,
) -> None:
    import edge_runtime

    facts = machine_facts()
    model = edge_runtime.load(bundle).with_fps(timesteps)
    decoding: list[float] = []
    spent: dict[float, list[float]] = {skip_s: [] for skip_s in still_skip}
    counts: dict[float, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory(prefix="still-") as folder:
        clip = Path(folder) / "still.mp4"
        write_still(clip, size, fps, seconds)
        watch(model, clip, still_skip[0])  # loads what is loaded once
        for turn in range(rounds):
            begin = time.process_time()
            play(clip, None)
            decoding.append((time.process_time() - begin) / seconds * _HOUR_S)
            for skip_s in still_skip[turn % len(still_skip) :] + still_skip[: turn % len(still_skip)]:
                begin = time.process_time()
                counts[skip_s] = watch(model, clip, skip_s)
                spent[skip_s].append((time.process_time() - begin) / seconds * _HOUR_S)
    first = np.array(spent[still_skip[0]])
    without = np.array(decoding)
    result: dict[str, Any] = {
        "what": f"{size[0]}x{size[1]} H.264 at {fps} fps, still, {seconds} s, {timesteps:g} timesteps a s",
        "machine": facts,
        "rounds": rounds,
        "decoding_cpu_s_per_hour": summarise(decoding),
        "settings": [
            {
                "still_skip": skip_s,
                "decided": counts[skip_s][0],
                "left_out": counts[skip_s][1],
                "cpu_s_per_hour": summarise(values),
                "times_less": summarise((first / np.array(values)).tolist()),
                "times_less_beyond_decoding": summarise(
                    ((first - without) / np.maximum(np.array(values) - without, 1e-9)).tolist()
                ),
            }
            for skip_s, values in spent.items()
        ],
    }
    _print(result)
    write_json(out, result)


def write_still(path: Path, size: tuple[int, int], fps: int, seconds: int, noise: float = 3.0) -> None:
    """``size``: width and height."""
    rng = np.random.default_rng(1)
    width, height = size
    coarse = rng.uniform(60, 180, (-(-height // 16), -(-width // 16), 3))
    scene = coarse.repeat(16, 0).repeat(16, 1)[:height, :width] + rng.normal(0, 8, (height, width, 1))
    noises = rng.normal(0, noise, (8, height, width, 1))
    options = {"preset": "veryfast", "crf": "24", "tune": "zerolatency", "g": str(4 * fps)}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(seconds * fps):
            seen = np.clip(scene + noises[rng.integers(8)], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(seen, "rgb24")))
        container.mux(stream.encode(None))


def watch(model: Model, clip: Path, skip_s: float) -> tuple[int, int]:
    """Watch the clip to its end as a run does. How many timesteps were decided on and left out."""
    from pipelines.camera import CameraOptions, Frame, open_camera

    query = QueryConfig(_QUERY, 0.0, PolicySettings(threshold=1.0), ask_anyway=True)
    loop = DecisionLoop(model, [query], EventIds("still", None), lambda _response: True)
    vision, scene = model.open_vision(), StillScene(skip_s)
    height, width = model.image_size
    options = CameraOptions(compare=skip_s > 0)
    decided = left_out = 0
    with open_camera(str(clip), fps=model.stream_format.fps, size=(width, height), options=options) as camera:
        for item in camera:
            if not isinstance(item, Frame):
                continue
            end_s = model.stream_format.interval(item.index)[1]
            if loop.ask_due(end_s):
                scene.restart()
            if scene.leaves_out(item.image, end_s):
                left_out += 1
                continue
            tokens = scene.tokens()
            if tokens is None:
                tokens = vision.see(item.image)
                scene.encoded(tokens)
            steps = loop.step(tokens, item.index)
            scene.decided([step.decision for step in steps], end_s)
            decided += 1
    loop.close()
    return decided, left_out


def _print(result: dict[str, Any]) -> None:
    click.echo(f"{result['what']}; {result['rounds']} rounds")
    decoding = result["decoding_cpu_s_per_hour"]
    click.echo(f"decoding alone: {decoding['p50']:.1f} s of processor time per hour of stream")
    heads = f"{'still_skip':>10} {'decided':>8} {'left out':>9} {'s per hour (p25..p75)':>26}"
    click.echo(f"\n{heads} {'times less':>22}")
    for row in result["settings"]:
        spent, less = row["cpu_s_per_hour"], row["times_less"]
        beyond = row["times_less_beyond_decoding"]["p50"]
        click.echo(
            f"{row['still_skip']:>10g} {row['decided']:>8} {row['left_out']:>9} "
            f"{spent['p50']:>10.1f} ({spent['p25']:.1f}..{spent['p75']:.1f}) "
            f"{less['p50']:>10.2f} ({less['p25']:.2f}..{less['p75']:.2f}), beyond decoding {beyond:.1f}"
        )


if __name__ == "__main__":
    run_command(main)
