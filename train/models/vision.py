"""What a family's frozen vision backbone is to the feature cache: a key, a picture size, and an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float16]]
"""Pictures [n, H, W, 3] RGB -> features [n, ...]."""


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

    def load(self, folder: Path) -> Encode:
        """The encoder, ready to run in this process."""
