"""What a bundle is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.kv_cache.window import EvictionPlan
from train.models.base import Visual


class Reference(Protocol):
    """One stream of a checkpoint in PyTorch, fed with pixels and token ids."""

    def see(self, pixels: NDArray[np.float32]) -> None:
        """Take the next frame [1, 3, H, W], whose visual tokens the next append will hold."""

    def seen(self) -> Visual:
        """Return what the decoder takes in of the last frame."""

    def append(self, ids: Sequence[int], start: int, with_frame: bool) -> NDArray[np.float32]:
        """Append ``ids`` at rows ``start ..`` and return the logits after the last one, [vocab]."""

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return keys and values of all rows, [L, Hkv, rows, Dh] each."""

    def evict(self, plan: EvictionPlan) -> None:
        """Drop the rows that ``plan`` drops, and rotate the keys of the kept ones."""
