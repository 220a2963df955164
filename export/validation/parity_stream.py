"""The stream on which a bundle is compared with its checkpoint: generated stories, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.synthetic.sprites.generate import make_story
from train.synthetic.sprites.questions import ask_all

SPLIT = "validation"
SEED = 4099
"""A seed of its own: no story here is one of the validation set's."""


@dataclass(frozen=True)
class Step:
    """One timestep: its frame, and what is asked before it."""

    frame: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    query: str | None = None


def story_stream(fps: float, seed: int = SEED) -> Iterator[Step]:
    """Endless timesteps at ``fps``; every story asks one question, of another task than the one before.

    Stories follow each other without a gap, as scenes of one long film do, so that a model sees what it was
    trained on and its window fills and evicts many times.
    """
    for number in itertools.count():
        rng, story = make_story(seed, number, SPLIT)
        records = ask_all(rng, story, str(number), "", training=False)
        record = records[number % len(records)] if records else None
        asked = record is None
        for k in range(int(story.scene.duration * fps)):
            end = (k + 1) / fps
            query = None
            if record is not None and not asked and end >= record["query"]["time"]:
                query, asked = record["query"]["text"], True
            yield Step(story.scene.render(end - 0.1 / fps), query)
