"""What a connection tells of: who receives its pictures."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Listener(Protocol):
    """Who receives pictures. Called on GStreamer's threads; must not raise."""

    def first_picture(self, detail: str) -> None:
        """The first decoded picture of this connection; ``detail`` names codec, size and decoder."""

    def want(self, raw_ns: int, captured_at: float) -> Any | None:
        """A decoded picture stamped ``raw_ns``: a ticket when it is needed, None when not."""

    def fill(self, until_ns: int) -> Any | None:
        """A recorded video's next picture is stamped ``until_ns``: a ticket when the one before is needed
        once more, for the time in which it was on screen.
        """

    def rest(self) -> Any | None:
        """A recorded video has ended: a ticket when its last picture is needed once more."""

    def picture(self, ticket: Any, image: np.ndarray) -> bool:
        """The picture asked for, ``uint8 [H, W, 3]``. May block (files). False: no more are wanted."""

    def skipped(self, path: str, reason: str) -> None:
        """A picture file that cannot be read."""
