"""Writes a scene as an H.264 clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from edge_runtime.atomic_write import whole_file
from train.synthetic.sprites.scenes.scene import SIZE, Scene

TIME_BASE = Fraction(1, 1000)


def frame_times(duration: float, fps: float) -> list[float]:
    """Times in seconds of every frame of a clip at ``fps``."""
    return [i / fps for i in range(round(duration * fps))]


def watched_times(duration: float) -> list[float]:
    """The first frame, and those a model at 1 fps takes from a 10 fps clip
    (:mod:`edge_runtime.video.sampling`)."""
    return [0.0, *(k + 0.9 for k in range(int(duration)))]


def write_clip(scene: Scene, path: Path, times: list[float], crf: int = 23) -> None:
    """Render ``scene`` at ``times`` (seconds, ascending) into an H.264 file; appears whole or not at all.

    Raises OSError when the file cannot be written.
    """
    with whole_file(path) as temporary, av.open(str(temporary), "w", format=path.suffix[1:]) as container:
        rate = Fraction(len(times) / scene.duration).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate)
        stream.codec_context.time_base = TIME_BASE
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": str(crf), "preset": "veryfast", "g": str(max(1, round(rate * 5)))}
        for t in times:
            frame = av.VideoFrame.from_ndarray(scene.render(t), format="rgb24")
            frame.pts, frame.time_base = round(t / TIME_BASE), TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
