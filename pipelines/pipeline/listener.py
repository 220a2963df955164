"""Who receives the frames of a connection."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Listener(Protocol):
    """Receives frames. Called on GStreamer's threads; must not raise."""

    def first_frame(self, detail: str) -> None:
        """The first frame of this connection was decoded; ``detail`` names codec, size and decoder."""

    def select(self, raw_ns: int, captured_at: float) -> Any | None:
        """Return a ticket when a decoded frame stamped ``raw_ns`` is needed, None when it is not."""

    def select_again(self, shown_s: float, until_s: float) -> Any | None:
        """Return a ticket when a frame of recorded video is needed once more, for the time it stays
        on screen: from ``shown_s`` until the next one at ``until_s``.
        """

    def select_last(self, last_s: float, end_s: float) -> Any | None:
        """Return a ticket when the last frame of recorded video, which starts at ``last_s``, is needed once
        more, up to the end of the video at ``end_s``.
        """

    def frame(self, ticket: Any, image: np.ndarray | None) -> bool:
        """Take a selected frame, ``uint8 [H, W, 3]``; None: it shows nothing new after the last one.

        May block (files). False: no more are needed.
        """

    def skipped(self, path: str, reason: str) -> None:
        """A part of the source cannot be read."""
