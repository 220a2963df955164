"""Makes a data set: clips with exact annotations, the same for the same seed, in parallel and resumable."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metric.progress import Progress
from edge_runtime.atomic_write import write_whole
from train.synthetic.sprites.questions import ask_all
from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.kitchen import kitchen_story
from train.synthetic.sprites.scenes.stage import Story, stage_story
from train.synthetic.sprites.scenes.walk import walk_story
from train.synthetic.sprites.video import frame_times, watched_times, write_clip

SPLITS = ("train", "validation", "test", "unseen")
FAMILIES: tuple[tuple[Callable[[np.random.Generator, list[str]], Story], float], ...] = (
    (stage_story, 0.60),
    (kitchen_story, 0.22),
    (walk_story, 0.18),
)


@dataclass(frozen=True)
class WorldConfig:
    """What to generate. ``fps`` is the clips' frame rate; ``watched_only`` leaves out the frames between
    timesteps, which makes a training set ten times cheaper and changes nothing that the model sees."""

    seed: int
    count: int
    out: Path
    split: str = "train"
    fps: float = 10.0
    crf: int = 23
    watched_only: bool = False


def clip_name(split: str, seed: int, index: int) -> str:
    """What clip ``index`` of a split is called."""
    return f"{split}-{seed}-{index:05d}"


def make_story(seed: int, index: int, split: str) -> tuple[np.random.Generator, Story]:
    """Story ``index`` of a split, and the generator to go on with. Splits never share a random stream."""
    rng = np.random.default_rng([SPLITS.index(split), seed, index])
    make = FAMILIES[int(rng.choice(len(FAMILIES), p=[share for _, share in FAMILIES]))][0]
    if split == "unseen":
        names = list(catalog.UNSEEN_ACTORS)
    elif make is walk_story:
        names = list(catalog.HAZARDS)
    else:
        names = list(catalog.ACTORS)
    return rng, make(rng, names)


def make_clip(config: WorldConfig, index: int) -> list[dict[str, Any]]:
    """Write clip ``index`` unless it is there already; returns its annotation records."""
    rng, story = make_story(config.seed, index, config.split)
    clip = clip_name(config.split, config.seed, index)
    video = f"clips/{clip}.mp4"
    records = ask_all(rng, story, clip, video, training=config.split == "train")
    if not (config.out / video).exists():
        duration = story.scene.duration
        times = watched_times(duration) if config.watched_only else frame_times(duration, config.fps)
        write_clip(story.scene, config.out / video, times, config.crf)
    return records


def generate(config: WorldConfig, workers: int = 1) -> Path:
    """Write ``clips/*.mp4`` and ``annotations.jsonl`` under ``config.out``; returns the annotation file.

    A run that was stopped goes on where it was. Raises OSError when the folder cannot be written.
    """
    (config.out / "clips").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = pool.map(make_clip, [config] * config.count, range(config.count), chunksize=4)
        records = []
        with Progress(config.count, config.split, unit="clip") as progress:
            for group in jobs:
                records.append(group)
                progress.advance()
    path = config.out / "annotations.jsonl"
    write_whole(
        path, (json.dumps(record, ensure_ascii=False) + "\n" for group in records for record in group)
    )
    return path
