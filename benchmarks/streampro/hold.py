"""Clips that stand still for a while before and after what happens, with their questions moved.

    python -m benchmarks.streampro hold --annotations data/test/annotations.jsonl --out data/held

Generated clips never stand still, most cameras do most of the time. The first frame of each clip is shown for
so many seconds before it begins and its last one after it ends. Two runs over the same held clips, with and
without ``--still-skip``, show what leaving out still scenes costs.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.annotations import Annotation, read_annotations, write_annotations
from benchmarks.metric.progress import Progress
from edge_runtime.errors import SourceError

_NOISES = 16
PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--annotations", required=True, type=PATH, help="Questions (JSON Lines).")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="New folder.")
@click.option("--before", type=click.IntRange(0), default=30, show_default=True, help="Seconds.")
@click.option("--after", type=click.IntRange(0), default=20, show_default=True, help="Seconds.")
@click.option(
    "--noise", type=click.FloatRange(0), default=2.0, show_default=True, help="Levels, of a sensor."
)
@click.option("--clips", type=click.IntRange(1), help="Of the first so many clips.  [default: all]")
@click.option("--crf", type=click.IntRange(0, 51), default=23, show_default=True, help="H.264 quality.")
def hold(
    annotations: Path, out: Path, before: int, after: int, noise: float, clips: int | None, crf: int
) -> None:
    """Make clips stand still before and after what happens."""
    questions = read_annotations(annotations)
    names = list(dict.fromkeys(question.video for question in questions))[:clips]
    paths = {question.video: question.video_path for question in questions}
    (out / "clips").mkdir(parents=True, exist_ok=True)
    with Progress(len(names), "hold", unit="clip") as progress:
        for name in names:
            write_held(paths[name], out / _held(name), (before, after), noise, crf)
            progress.advance()
    write_annotations(
        out / "annotations.jsonl",
        [moved(question, before, after) for question in questions if question.video in names],
    )
    click.echo(out / "annotations.jsonl")


def moved(question: Annotation, before: int, after: int) -> Annotation:
    """The question on the held clip."""
    return replace(
        question,
        video=_held(question.video),
        duration=question.duration + before + after,
        query=replace(question.query, time=question.query.time + before),
        answers=tuple(
            replace(answer, start=answer.start + before, end=answer.end + before)
            for answer in question.answers
        ),
    )


def write_held(clip: Path, path: Path, hold_s: tuple[int, int], noise: float, crf: int) -> None:
    """``hold_s``: before and after. Every frame gets noise. Raises SourceError."""
    rng = np.random.default_rng(0)
    try:
        with av.open(str(clip)) as source, av.open(str(path), "w") as target:
            video = source.streams.video[0]
            rate = Fraction(video.average_rate or 25)
            stream = target.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"

            shape = (_NOISES, video.height, video.width, 3)
            noises = rng.normal(0, noise, shape).astype(np.int16)

            def show(image: NDArray[np.uint8], times: int) -> None:
                for _ in range(times):
                    noisy = image + noises[rng.integers(_NOISES)]
                    seen = np.clip(noisy, 0, 255).astype(np.uint8)
                    target.mux(stream.encode(av.VideoFrame.from_ndarray(seen, "rgb24")))

            image = None
            for frame in source.decode(video):
                first, image = image is None, frame.to_ndarray(format="rgb24").astype(np.uint8)
                show(image, 1 + (round(hold_s[0] * rate) if first else 0))
            if image is not None:
                show(image, round(hold_s[1] * rate))
            target.mux(stream.encode(None))
    except (av.FFmpegError, IndexError, OSError) as error:
        raise SourceError(f"{clip}: cannot be held ({error}); check the file", permanent=True) from error


def _held(name: str) -> str:
    return f"clips/{Path(name).name}"
