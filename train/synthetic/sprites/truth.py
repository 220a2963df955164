"""What the frames of a generated clip show: sprites with their places, and what actors are doing.

A clip is identified by its name, from which its story can be made again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.config.errors import RecipeError
from train.synthetic.sprites.generate import SPLITS, make_story
from train.synthetic.sprites.scenes.scene import SIZE, Event
from train.synthetic.sprites.scenes.stage import VERBS, Story

_CLIP_NAME = re.compile(rf"({'|'.join(SPLITS)})-(\d+)-(\d+)$")
PLACE_NUMBERS = 5
"""Numbers read for each sprite: x and y from its region's centre, log size, sine and cosine of its angle."""
NEAR_PX = 40.0
"""Pixels that count as 1 in a place."""
_SMALLEST = 20.0
"""Pixels below which a sprite need not be seen."""
FRAME_SECOND = 0.9
"""Second of a timestep at which its frame was taken."""
_SHARE = 0.35
"""Seconds of an event that must lie between two frames for the second one to show it."""


@dataclass(frozen=True)
class FrameTruth:
    """Sparse truth of a clip's n frames.

    ``where`` [m, 3]: frame, region, sprite; ``place`` [m, 5]; ``doing`` [e, 3]: frame, region, verb.
    """

    where: NDArray[np.int64]
    place: NDArray[np.float32]
    doing: NDArray[np.int64]


def story_of(clip: Path) -> Story:
    """What the generated ``clip`` shows. Raises RecipeError for a clip that was not generated."""
    match = _CLIP_NAME.search(clip.stem)
    if match is None:
        raise RecipeError(f"{clip}: not a generated clip, whose content would be known")
    split, seed, index = match.groups()
    return make_story(int(seed), int(index), split)[1]


def clip_truth(
    story: Story, timesteps: tuple[int, ...], keys: dict[str, int], centres: list[float]
) -> FrameTruth:
    """What ``story``'s clip shows at each timestep it was watched at (1 fps, 0.1 s before its end).

    ``keys``: number of each sprite. ``centres``: pixels at which the regions of one side are centred; a
    sprite belongs to the nearest.
    """
    where, place = [], []
    for frame, timestep in enumerate(timesteps):
        t = timestep + FRAME_SECOND
        pan = story.scene.camera_x.at(t)
        for actor in story.scene.actors:
            x, y, size = actor.x.at(t) - pan, actor.y.at(t), actor.size.at(t)
            if not (0 <= x <= SIZE and 0 <= y <= SIZE and size >= _SMALLEST and actor.opacity.at(t) > 0.4):
                continue
            column, row = nearest(x, centres), nearest(y, centres)
            region = row * len(centres) + column
            angle = math.radians(actor.angle.at(t))
            where.append((frame, region, keys[actor.look(t)]))
            offset = ((x - centres[column]) / NEAR_PX, (y - centres[row]) / NEAR_PX)
            place.append((*offset, math.log(size / 64), math.sin(angle), math.cos(angle)))
    return FrameTruth(
        np.array(where, np.int64).reshape(-1, 3),
        np.array(place, np.float32).reshape(-1, PLACE_NUMBERS),
        np.array(doings(story, timesteps, centres), np.int64).reshape(-1, 3),
    )


def under_way(story: Story, timesteps: tuple[int, ...]) -> Iterator[tuple[int, Event]]:
    """(frame, event) for everything an actor does that a frame and the one before it show."""
    for event in story.events:
        for frame, timestep in enumerate(timesteps):
            now = timestep + FRAME_SECOND
            if event.kind in VERBS and min(now, event.end) - max(now - 1.0, event.start) >= _SHARE:
                yield frame, event


def doings(story: Story, timesteps: tuple[int, ...], centres: list[float]) -> list[tuple[int, int, int]]:
    """(frame, region, verb) of what is under way; the region is where the actor is last seen doing it."""
    verbs = {kind: i for i, kind in enumerate(VERBS)}
    actors = {actor.name: actor for actor in story.scene.actors}
    found = []
    for frame, event in under_way(story, timesteps):
        actor, seen = actors[event.subject], min(timesteps[frame] + FRAME_SECOND, event.end - 0.01)
        column, row = nearest(actor.x.at(seen), centres), nearest(actor.y.at(seen), centres)
        found.append((frame, row * len(centres) + column, verbs[event.kind]))
    return found


def nearest(value: float, centres: list[float]) -> int:
    """Index of the centre nearest to ``value``."""
    return min(range(len(centres)), key=lambda i: abs(value - centres[i]))
