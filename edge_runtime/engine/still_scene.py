"""Which timesteps of a still scene are left out, and which visual tokens are used again.

A camera that compares frames gives the very image of the frame before where nothing is new
(:mod:`edge_runtime.video.stillness`). A timestep is left out when its image is the one before, the model was
silent about that image several times, and it was decided on no longer than ``skip_s`` ago. So a change is
decided on at once, and so are the timesteps that follow it, a new question and a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_runtime.engine.decision import Decision

SETTLED_AFTER = 3
"""Decisions in a row that are silent about an unchanged image before one is left out: what stands still, and
for how long, is seen only then."""


class StillScene:
    """One stream. For one thread at a time. Times are seconds of the stream."""

    def __init__(self, skip_s: float) -> None:
        self._skip_s = skip_s
        self._image: Any = None
        self._again = False
        """The image is that of the timestep before."""
        self._silent = 0
        self._decided_s = 0.0
        self._tokens: Any = None

    def leaves_out(self, image: Any, time_s: float) -> bool:
        """True when the timestep that ends at ``time_s`` needs no decision. Call it for each timestep."""
        self._again = image is self._image
        if not self._again:
            self._image, self._silent, self._tokens = image, 0, None
        return self._silent >= SETTLED_AFTER and time_s - self._decided_s < self._skip_s

    def tokens(self) -> Any:
        """Visual tokens of the image at hand, computed for a timestep that repeated it; None without any."""
        return self._tokens

    def encoded(self, tokens: Any) -> None:
        """Keep what vision made of the image at hand. Those of its first timestep show a change, still."""
        if self._again:
            self._tokens = tokens

    def decided(self, decisions: Sequence[Decision], time_s: float) -> None:
        """Note the decisions of a timestep that was not left out: none when they come later."""
        if any(decision.speak for decision in decisions):
            self._silent = 0
        elif decisions and not any(decision.decided for decision in decisions):
            return  # a frame that waits for the others of its turn
        elif self._again:
            self._silent += 1
        self._decided_s = time_s

    def restart(self) -> None:
        """Decide again about the image at hand: questions have changed, or a late decision was a response."""
        self._silent = 0
