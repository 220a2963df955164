"""What a family's frozen vision backbone is to the feature cache: a key, a picture size, and an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Encode(Protocol):
    """Pictures [n, H, W, 3] RGB -> features [n, ...]."""

    def __call__(self, pictures: NDArray[np.uint8], *, first: bool = True) -> NDArray[np.float16]:
        """Encode the next pictures of a clip. ``first``: they begin it; a vision with memory starts anew."""


class FrozenVision(Protocol):
    """A backbone that training never changes, so its features of a frame are computed once.

    An instance describes the backbone and holds no weights: it is pickled and sent to worker processes.
    """

    @property
    def key(self) -> str:
        """Hash of weights and preprocessing: part of the name of every cached feature file."""

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures it sees."""

    def record(self) -> dict[str, Any]:
        """As a checkpoint's config.json names it."""

    def prepare(self, folder: Path) -> None:
        """Done once, before workers start: checks, and files that all of them read, kept in the cache's
        ``folder``. Raises ValueError for weights that are missing or not the known ones.
        """

    def save(self, folder: Path) -> None:
        """Put into a checkpoint's folder what only the checkpoint has of the backbone."""

    def load(self, folder: Path) -> Encode:
        """The encoder, ready to run in this process."""
