"""What reading a video costs beyond its decoding: 1080p H.264 through our source, against `identity`.

    python -m benchmarks.latency.pipeline --out pipeline.json

The same clip is decoded to its end, as fast as it goes, by every variant in turns, several rounds
interleaved: into a fakesink, through `identity` into a fakesink, and by the camera of :mod:`pipelines` at so
many timesteps a second: choosing the frames, converting, scaling, copying, handing over. With snapshots,
frames are converted in full size instead of being halved first. The figure is
processor time of this process for each frame of the clip, less that of decoding alone in the same round: it
holds every thread, and other programs do not count. Beside it, how long a chosen frame takes from the
decoder to who reads it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import numpy as np

from benchmarks.latency.bench.load.clip import WORLD_CLIP, LoopedClip
from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import BackendError

DECODING, IDENTITY = "decoding alone", "identity"


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=5, show_default=True, help="Length of the clip.")
@click.option(
    "--size", type=(click.IntRange(16), click.IntRange(16)), default=(1920, 1080), show_default=True
)
@click.option("--fps", type=click.IntRange(1), default=30, show_default=True, help="Of the clip.")
@click.option(
    "--timesteps",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 10, 30),
    show_default=True,
    help="Chosen frames a second; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    rounds: int, seconds: int, size: tuple[int, int], fps: int, timesteps: tuple[int, ...], out: Path | None
) -> None:
    facts = machine_facts()
    frames = seconds * fps
    with tempfile.TemporaryDirectory(prefix="clip-") as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, size, fps, frames)
        waits: dict[str, list[float]] = {f"camera, {rate} a second": [] for rate in timesteps}
        read: dict[str, Callable[[], None]] = {
            DECODING: lambda: play(clip, None),
            IDENTITY: lambda: play(clip, IDENTITY),
        }
        for rate, name in zip(timesteps, waits, strict=True):
            read[name] = lambda rate=rate, name=name: waits[name].extend(_watch(clip, rate))
            read[f"{name}, snapshots"] = lambda rate=rate: _watch(clip, rate, snapshots=True)
        names = list(read)
        spent: dict[str, list[float]] = {name: [] for name in names}
        play(clip, None)  # finds the plugins and warms the file
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                begin = time.process_time()
                read[name]()
                spent[name].append((time.process_time() - begin) * 1e3 / frames)
    decoding = np.array(spent[DECODING])
    result: dict[str, Any] = {
        "what": f"{size[0]}x{size[1]} H.264 at {fps} a second, {frames} frames, ms of processor time a frame",
        "machine": facts,
        "gstreamer": _version(),
        "rounds": rounds,
        "cpu_ms_a_frame": {name: summarise(values) for name, values in spent.items()},
        "beyond_decoding_ms": {
            name: summarise((np.array(values) - decoding).tolist())
            for name, values in spent.items()
            if name != DECODING
        },
        "decoder_to_reader_ms": {name: summarise(values) for name, values in waits.items()},
    }
    _print(result)
    write_json(out, result)


def write_clip(path: Path, size: tuple[int, int], fps: int, frames: int) -> None:
    """``frames`` of them from the clip that comes with the program, enlarged to ``size`` (width, height)."""
    clip = LoopedClip(WORLD_CLIP)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(clip.next(), format="rgb24")
            container.mux(stream.encode(frame.reformat(*size, format="yuv420p")))
        container.mux(stream.encode(None))


def play(clip: Path, through: str | None) -> None:
    """Decode to the end. Raises BackendError when that fails."""
    from pipelines.gst import load, make

    Gst = load().Gst
    pipeline = Gst.Pipeline.new(None)
    source, decoder = make("filesrc", location=str(clip)), make("decodebin")
    sink = make("fakesink", sync=False)
    tail = [sink] if through is None else [make(through), sink]
    for element in (source, decoder, *tail):
        pipeline.add(element)
    source.link(decoder)
    if through is not None:
        tail[0].link(sink)
    decoder.connect("pad-added", lambda _decoder, pad: pad.link(tail[0].get_static_pad("sink")))
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, kinds)
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        raise BackendError(f"{message.parse_error()[0].message}; see `edge-run doctor`")


def _watch(clip: Path, rate: int, *, snapshots: bool = False) -> list[float]:
    """Read every chosen frame; milliseconds each took from the decoder to here."""
    from pipelines.camera import CameraOptions, Frame, open_camera
    from pipelines.evidence.ring import Footage

    footage = Footage(0.0, 1, picture=True, clip=False) if snapshots else None
    waited = []
    with open_camera(str(clip), fps=float(rate), options=CameraOptions(evidence=footage)) as camera:
        for item in camera:
            if isinstance(item, Frame):
                waited.append((time.monotonic() - item.captured_at) * 1e3)
    return waited


def _version() -> str:
    from pipelines.gst import load

    version: str = load().Gst.version_string()
    return version


def _print(result: dict[str, Any]) -> None:
    click.echo(f"{result['what']}; {result['rounds']} rounds, {result['gstreamer']}")
    click.echo(f"\n{'':<34} {'in all':>8} {'beyond decoding: p50 (p25..p75)':>32} {'decoder to reader':>18}")
    for name, row in result["cpu_ms_a_frame"].items():
        more = wait = ""
        if (beyond := result["beyond_decoding_ms"].get(name)) is not None:
            more = f"{beyond['p50']:.3f} ({beyond['p25']:.3f}..{beyond['p75']:.3f})"
        if (waited := result["decoder_to_reader_ms"].get(name)) is not None:
            wait = f"{waited['p50']:.2f}"
        click.echo(f"{name:<34} {row['p50']:>8.3f} {more:>32} {wait:>18}")


if __name__ == "__main__":
    run_command(main)
