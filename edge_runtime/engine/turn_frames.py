"""The frames of one turn, in a stream format whose turns have several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TurnFrames:
    """Gathers ``count`` frames, frame ``index`` being of turn ``index // count``."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._turn = -1
        self._held: list[NDArray[np.float32]] = []

    def gather(self, visual: NDArray[np.float32], index: int) -> NDArray[np.float32] | None:
        """Visual tokens of the whole turn behind each other [.., n V, D] when its last frame has come.

        Frames of a turn whose last one never came are forgotten. Where an earlier one is missing, the first
        that came stands in for it. Gathering the last frame again gives the same: a failed timestep may be
        pushed again.
        """
        if self._count == 1:
            return visual
        turn, place = divmod(index, self._count)
        held = self._held if turn == self._turn else []
        if place < self._count - 1:
            self._turn, self._held = turn, [*held, visual]
            return None
        frames = [*held, visual]
        missing = self._count - len(frames)
        return np.concatenate([*frames[:1] * missing, *frames], axis=-2)

    def reset(self) -> None:
        """Forget the frames that wait."""
        self._turn, self._held = -1, []
