"""Real photographs as short videos with known appearance times: ``python -m
benchmarks.external.real_photos``.

The photographs are those that packages ship: scikit-image, scikit-learn, and OpenCV's samples (Debian's
opencv-doc). A camera rests on one for some seconds, then pans to the next, as H.264; every clip is asked
"Tell me when you see a cat." about things it shows, and about one that it does not, where silence is right.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.metric.annotations import Annotation, Answer, Query, write_annotations
from edge_runtime.atomic_write import whole_file
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import ConfigError

SIZE = 320
"""Pixels of a side of a photo."""
FPS = 10
PAN_S = 1.0
REST_S = (4, 7)
"""Fewest and most seconds on one photograph."""
OPENCV = Path("/usr/share/doc/opencv-doc/examples/data")

PHOTOGRAPHS = {
    "cat": "skimage/data/chelsea.png",
    "coffee": "skimage/data/coffee.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "rocket": "skimage/data/rocket.jpg",
    "person": "skimage/data/astronaut.png",
    "temple": "sklearn/datasets/images/china.jpg",
    "flower": "sklearn/datasets/images/flower.jpg",
    "apple": "opencv/apple.jpg",
    "orange": "opencv/orange.jpg",
    "monkey": "opencv/baboon.jpg",
    "butterfly": "opencv/butterfly.jpg",
    "plane": "opencv/aero1.jpg",
    "house": "opencv/home.jpg",
    "squirrel": "opencv/squirrel_cls.jpg",
}
"""What a photograph shows, and where it is: a package and a path in it. Each name is one everyday word."""


@dataclass(frozen=True)
class Shot:
    """A photograph in a clip: its name, and the seconds from which and to which the camera rests on it."""

    name: str
    start: float
    end: float


def photograph(name: str) -> Path:
    """Where a photograph of PHOTOGRAPHS lies. Raises ConfigError when its package is not installed."""
    package, _, path = PHOTOGRAPHS[name].partition("/")
    if package == "opencv":
        file, advice = OPENCV / path, "apt-get install opencv-doc"
    else:
        spec = importlib.util.find_spec(package)
        folder = Path(spec.origin).parent if spec and spec.origin else Path(package)
        file, advice = folder / path, f"pip install scikit-{'image' if package == 'skimage' else 'learn'}"
    if not file.is_file():
        raise ConfigError(f"the photograph of a {name} is not there ({file}): {advice}")
    return file


def plan(names: Sequence[str], rng: np.random.Generator) -> list[Shot]:
    """The shots of a clip in order of time, on whole seconds, ``PAN_S`` apart."""
    shots, start = [], 0.0
    for name in names:
        end = start + float(rng.integers(REST_S[0], REST_S[1] + 1))
        shots.append(Shot(name, start, end))
        start = end + PAN_S
    return shots


def render(shots: Sequence[Shot], photos: dict[str, Image.Image]) -> Iterator[NDArray[np.uint8]]:
    """Frames [SIZE, SIZE, 3] RGB at ``FPS``. At rest the camera creeps closer: no frame is as before."""
    strip = np.concatenate([np.asarray(photos[shot.name]) for shot in shots], axis=1)  # [SIZE, n SIZE, 3]
    for i in range(round(shots[-1].end * FPS)):
        t = i / FPS
        number = next(n for n, shot in enumerate(shots) if t < shot.end + PAN_S)
        shot = shots[number]
        left = number + max(0.0, t - shot.end) / PAN_S  # in photos
        x = round(left * SIZE)
        frame = Image.fromarray(strip[:, x : x + SIZE])
        inset = 0.06 * SIZE * min(max(t - shot.start, 0.0), shot.end - shot.start) / REST_S[1]
        box = (inset, inset, SIZE - inset, SIZE - inset)
        yield np.asarray(frame.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box))


def write_clip(path: Path, frames: Iterator[NDArray[np.uint8]]) -> None:
    """Write an H.264 file; it appears whole or not at all."""
    with whole_file(path) as temporary, av.open(str(temporary), "w", format=path.suffix[1:]) as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def questions(clip: str, shots: Sequence[Shot], absent: str) -> Iterator[Annotation]:
    """One about everything the clip shows after its first shot, and one about ``absent``."""
    duration = shots[-1].end
    for i, name in enumerate([*(shot.name for shot in shots[1:]), absent], start=1):
        thing = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
        answers = tuple(Answer(s.start, s.end, f"I see {thing}.") for s in shots if s.name == name)
        yield Annotation(
            f"{clip}/q{i}",
            f"clips/{clip}.mp4",
            duration,
            "EU",
            Query(0.0, f"Tell me when you see {thing}."),
            answers,
            extra={"object": name, "shots": [[s.name, s.start, s.end] for s in shots]},
        )


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option("--count", default=12, show_default=True, type=click.IntRange(1), help="Clips.")
@click.option("--shots", default=4, show_default=True, type=click.IntRange(2, 8), help="Photographs a clip.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
def main(out: Path, count: int, shots: int, seed: int) -> None:
    """Write clips and annotations.jsonl from the photographs that are installed."""
    rng = np.random.default_rng(seed)
    photos = {
        name: ImageOps.fit(Image.open(photograph(name)).convert("RGB"), (SIZE, SIZE)) for name in PHOTOGRAPHS
    }
    (out / "clips").mkdir(parents=True, exist_ok=True)
    written: list[Annotation] = []
    for number in range(count):
        names = [str(name) for name in rng.permutation(list(PHOTOGRAPHS))]
        clip, planned = f"photos-{seed}-{number:03d}", plan(names[:shots], rng)
        write_clip(out / "clips" / f"{clip}.mp4", render(planned, photos))
        written += questions(clip, planned, names[shots])
    write_annotations(out / "annotations.jsonl", written)
    click.echo(f"{count} clips, {len(written)} questions: {out / 'annotations.jsonl'}")


if __name__ == "__main__":
    run_command(main)
