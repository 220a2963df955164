"""Scenes in which nothing happens: parked cars, furniture, perhaps somebody who sits."""

from __future__ import annotations

import numpy as np

from train.synthetic.detections.catalog import ANIMALS, ON_TABLES, VEHICLES
from train.synthetic.detections.scene import Scene
from train.synthetic.detections.stories.stage import LIE, SIT, Layout, Stage

PLACES: tuple[tuple[tuple[float, float], tuple[float, float], tuple[str, ...]], ...] = (
    ((1.2, 9.0), (5.0, 26.0), (*VEHICLES, "bench", "potted plant", "bicycle")),
    ((1.0, 3.0), (2.5, 6.5), ("chair", "couch", "dining table", "tv", "potted plant", "bed", "refrigerator")),
    ((0.35, 1.1), (0.6, 1.3), ON_TABLES),
)
"""Heights of the camera and where it looks (metres), and what is there."""


def still(rng: np.random.Generator, layout: Layout) -> Scene:
    """A street, a room or a table for a minute, with nothing that moves."""
    height_m, look_at_m, kinds = PLACES[int(rng.integers(len(PLACES)))]
    stage = Stage.make(rng, layout, height_m=height_m, look_at_m=look_at_m, duration=(45.0, 80.0))
    for _ in range(stage.several(1, 7)):
        stage.add(str(rng.choice(kinds)), stage.spot(down=(0.35, 0.85)))
    if kinds is not ON_TABLES:
        for _ in range(int(rng.choice([0, 0, 1, 2]))):
            kind = str(rng.choice(["person", "person", *ANIMALS[:2]]))
            actor = stage.add(kind, stage.spot(down=(0.45, 0.85)))
            if kind == "person" and rng.random() < 0.7:
                actor.shape.go(0.0, *(SIT if rng.random() < 0.8 else LIE))
    return stage.scene
