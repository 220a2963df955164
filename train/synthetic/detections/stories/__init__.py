"""Stories by family; :func:`tell` draws one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from train.synthetic.detections.scene import Scene
from train.synthetic.detections.stories.indoors import indoors
from train.synthetic.detections.stories.outdoors import outdoors
from train.synthetic.detections.stories.stage import USUAL, Layout
from train.synthetic.detections.stories.still import still
from train.synthetic.detections.stories.tabletop import tabletop
from train.synthetic.detections.stories.travel import drive, walk

FAMILIES: dict[str, tuple[Callable[[np.random.Generator, Layout], Scene], float]] = {
    "outdoors": (outdoors, 0.34),
    "indoors": (indoors, 0.26),
    "tabletop": (tabletop, 0.2),
    "walk": (walk, 0.08),
    "drive": (drive, 0.06),
    "still": (still, 0.06),
}
"""What a family's story is made by, and its share of a data set."""


def tell(rng: np.random.Generator, layout: Layout = USUAL) -> tuple[str, Scene]:
    """A story of a random family, with the family's name."""
    names = list(FAMILIES)
    name = names[int(rng.choice(len(names), p=[FAMILIES[name][1] for name in names]))]
    return name, FAMILIES[name][0](rng, layout)
