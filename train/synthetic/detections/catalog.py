"""What can stand in a scene: classes with sizes, how well a detector finds them, what it takes them for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.models.perception.nanodet import CLASSES

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.62, 0.13, 0.14),
    "blue": (0.15, 0.25, 0.55),
    "green": (0.18, 0.42, 0.20),
    "yellow": (0.75, 0.65, 0.15),
    "orange": (0.78, 0.42, 0.12),
    "white": (0.82, 0.82, 0.82),
    "black": (0.09, 0.09, 0.10),
    "grey": (0.45, 0.45, 0.46),
    "brown": (0.36, 0.24, 0.15),
}
"""Names of colours and what a camera makes of them, RGB in 0..1."""


@dataclass(frozen=True)
class Kind:
    """``size``: width, depth, height in metres, of a typical one; ``spread``: how much sizes differ (log).

    ``score``: what the detector gives a clear view; ``full_px``: height in pixels of its input from which
    the view is clear. ``taken_for``: other classes it also reports, with how often an individual is one of
    those.
    """

    name: str
    size: tuple[float, float, float]
    spread: float = 0.12
    score: float = 0.6
    full_px: float = 60.0
    taken_for: tuple[tuple[str, float], ...] = ()

    @property
    def number(self) -> int:
        return CLASSES.index(self.name)


def _kinds(*kinds: Kind) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS = _kinds(
    Kind("person", (0.55, 0.45, 1.72), 0.07, 0.8, 42.0, (("cat", 0.02), ("dog", 0.03), ("chair", 0.02))),
    Kind("bicycle", (1.7, 0.5, 1.05), 0.08, 0.58, 36.0, (("motorcycle", 0.2),)),
    Kind("car", (4.3, 1.8, 1.5), 0.1, 0.64, 21.0, (("truck", 0.35), ("bus", 0.03))),
    Kind("motorcycle", (2.0, 0.8, 1.2), 0.1, 0.58, 36.0, (("bicycle", 0.2), ("person", 0.1))),
    Kind("bus", (10.5, 2.5, 3.1), 0.1, 0.65, 32.0, (("truck", 0.3), ("train", 0.08))),
    Kind("truck", (6.5, 2.3, 2.8), 0.2, 0.58, 32.0, (("car", 0.45), ("bus", 0.15))),
    Kind("bird", (0.35, 0.25, 0.3), 0.3, 0.55, 31.0, (("kite", 0.05),)),
    Kind("cat", (0.5, 0.25, 0.3), 0.12, 0.58, 35.0, (("dog", 0.35),)),
    Kind("dog", (0.8, 0.3, 0.6), 0.25, 0.6, 35.0, (("cat", 0.2), ("horse", 0.05), ("cow", 0.03))),
    Kind("horse", (2.2, 0.6, 1.7), 0.1, 0.62, 43.0, (("cow", 0.2), ("dog", 0.05))),
    Kind("sheep", (1.1, 0.45, 0.85), 0.12, 0.55, 39.0, (("cow", 0.2), ("dog", 0.15))),
    Kind("cow", (2.2, 0.7, 1.45), 0.1, 0.58, 43.0, (("horse", 0.2), ("sheep", 0.1))),
    Kind("bear", (1.6, 0.8, 1.1), 0.15, 0.55, 43.0, (("dog", 0.25), ("cow", 0.1))),
    Kind("backpack", (0.35, 0.22, 0.48), 0.12, 0.45, 35.0, (("handbag", 0.3), ("suitcase", 0.3))),
    Kind("handbag", (0.35, 0.15, 0.3), 0.15, 0.42, 35.0, (("backpack", 0.3), ("suitcase", 0.2))),
    Kind("suitcase", (0.5, 0.28, 0.68), 0.15, 0.52, 39.0, (("backpack", 0.25), ("handbag", 0.1))),
    Kind("umbrella", (1.0, 1.0, 0.75), 0.1, 0.55, 35.0, (("kite", 0.05),)),
    Kind("skateboard", (0.8, 0.2, 0.15), 0.05, 0.45, 31.0, ()),
    Kind("sports ball", (0.23, 0.23, 0.23), 0.1, 0.55, 20.0, (("frisbee", 0.25), ("apple", 0.05))),
    Kind("frisbee", (0.27, 0.27, 0.06), 0.05, 0.42, 20.0, (("sports ball", 0.3),)),
    Kind("bottle", (0.08, 0.08, 0.27), 0.12, 0.56, 47.0, (("vase", 0.15), ("cup", 0.05))),
    Kind("wine glass", (0.08, 0.08, 0.2), 0.08, 0.52, 43.0, (("cup", 0.25),)),
    Kind("cup", (0.09, 0.09, 0.1), 0.12, 0.55, 35.0, (("bowl", 0.12), ("vase", 0.08), ("wine glass", 0.06))),
    Kind("bowl", (0.19, 0.19, 0.08), 0.15, 0.55, 31.0, (("cup", 0.2), ("dining table", 0.04))),
    Kind("fork", (0.2, 0.03, 0.02), 0.05, 0.4, 20.0, (("knife", 0.3), ("spoon", 0.2))),
    Kind("knife", (0.23, 0.03, 0.02), 0.05, 0.4, 20.0, (("fork", 0.3),)),
    Kind("spoon", (0.19, 0.04, 0.02), 0.05, 0.38, 20.0, (("fork", 0.3), ("knife", 0.1))),
    Kind("banana", (0.2, 0.06, 0.05), 0.1, 0.55, 23.0, ()),
    Kind("apple", (0.08, 0.08, 0.08), 0.08, 0.5, 27.0, (("orange", 0.2), ("sports ball", 0.08))),
    Kind("orange", (0.08, 0.08, 0.08), 0.08, 0.5, 27.0, (("apple", 0.2), ("sports ball", 0.1))),
    Kind("sandwich", (0.15, 0.12, 0.07), 0.1, 0.45, 31.0, (("cake", 0.2), ("hot dog", 0.1))),
    Kind("pizza", (0.3, 0.3, 0.03), 0.08, 0.6, 35.0, (("cake", 0.12),)),
    Kind("cake", (0.24, 0.24, 0.1), 0.15, 0.5, 35.0, (("sandwich", 0.15), ("pizza", 0.05))),
    Kind("chair", (0.5, 0.5, 0.9), 0.08, 0.48, 47.0, (("couch", 0.12), ("bench", 0.05))),
    Kind("couch", (1.9, 0.9, 0.85), 0.1, 0.52, 47.0, (("chair", 0.3), ("bed", 0.15))),
    Kind("bench", (1.6, 0.6, 0.85), 0.1, 0.45, 39.0, (("chair", 0.15),)),
    Kind("potted plant", (0.45, 0.45, 0.8), 0.25, 0.5, 39.0, (("vase", 0.15),)),
    Kind("bed", (2.0, 1.6, 0.6), 0.08, 0.55, 55.0, (("couch", 0.25),)),
    Kind("dining table", (1.5, 0.9, 0.74), 0.15, 0.42, 55.0, (("bed", 0.04),)),
    Kind("tv", (1.05, 0.1, 0.62), 0.15, 0.55, 39.0, (("laptop", 0.1),)),
    Kind("laptop", (0.34, 0.24, 0.22), 0.06, 0.55, 35.0, (("tv", 0.12), ("book", 0.1))),
    Kind("keyboard", (0.44, 0.14, 0.03), 0.05, 0.5, 23.0, (("laptop", 0.15), ("remote", 0.05))),
    Kind("mouse", (0.11, 0.06, 0.04), 0.05, 0.42, 20.0, (("remote", 0.1),)),
    Kind("cell phone", (0.16, 0.08, 0.02), 0.05, 0.45, 23.0, (("remote", 0.3), ("book", 0.05))),
    Kind("remote", (0.18, 0.05, 0.02), 0.05, 0.4, 20.0, (("cell phone", 0.3),)),
    Kind("book", (0.24, 0.17, 0.03), 0.15, 0.42, 31.0, (("laptop", 0.06), ("cell phone", 0.06))),
    Kind("scissors", (0.2, 0.08, 0.02), 0.05, 0.42, 23.0, ()),
    Kind("teddy bear", (0.35, 0.3, 0.45), 0.2, 0.55, 35.0, (("dog", 0.06),)),
    Kind("vase", (0.15, 0.15, 0.3), 0.15, 0.48, 39.0, (("bottle", 0.15), ("potted plant", 0.1))),
    Kind("refrigerator", (0.7, 0.7, 1.75), 0.08, 0.5, 55.0, (("oven", 0.08),)),
    Kind("clock", (0.3, 0.06, 0.3), 0.1, 0.5, 27.0, ()),
)

HALLUCINATIONS: tuple[str, ...] = (
    "sports ball", "kite", "bird", "skis", "surfboard", "cell phone", "tie", "umbrella", "frisbee", "clock",
    "traffic light", "person", "car", "boat", "airplane", "sheep", "chair", "tv", "bottle", "book", "handbag",
    "dog", "cat", "cow", "stop sign", "parking meter", "fire hydrant", "remote", "toothbrush", "potted plant",
)  # fmt: skip
"""What a detector reports where nothing is: on real footage the same few, in the same places of a scene."""

CUT_OFF_AS: dict[str, tuple[str, ...]] = {
    "person": ("chair", "dog", "handbag", "surfboard", "cat", "backpack", "tie", "bench"),
    "vehicle": ("truck", "bus", "train", "boat", "car", "suitcase"),
    "other": ("bird", "dog", "cat", "chair", "cow", "horse"),
}
"""What a detector may take somebody for of whom the border shows a part."""

FROM_ABOVE_AS = (
    "cell phone",
    "boat",
    "cell phone",
    "suitcase",
    "remote",
    "mouse",
    "kite",
    "airplane",
    "skateboard",
)
"""What a detector that learned from photographs takes a vehicle for that it sees from above."""

VEHICLES = ("car", "truck", "bus", "motorcycle")
ANIMALS = ("dog", "cat", "bird", "horse", "sheep", "cow", "bear")
ON_TABLES = (
    "bottle", "wine glass", "cup", "bowl", "fork", "knife", "spoon", "banana", "apple", "orange", "sandwich",
    "pizza", "cake", "laptop", "keyboard", "mouse", "cell phone", "remote", "book", "scissors", "vase",
    "teddy bear",
)  # fmt: skip
MOBILE = ("person", "bicycle", *VEHICLES, *ANIMALS)
"""What comes and goes by itself."""
BAGS = ("backpack", "handbag", "suitcase")


def draw_colour(rng: np.random.Generator, name: str | None = None) -> tuple[str, np.ndarray]:
    """A colour's name and one shade of it, RGB in 0..1; of the colour ``name`` if given."""
    names = list(COLOURS)
    chosen = name or names[int(rng.integers(len(names)))]
    shade = np.array(COLOURS[chosen]) * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02, 3)
    return chosen, shade.clip(0, 1)
