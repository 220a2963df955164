"""Where the frames come from: a clip, decoded while it is measured, looped, never the same frame twice.

A frame that is shown again finds its values in the caches and measures too well. So each lap over the clip
is shifted by a few pixels and a little brighter or darker than the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from edge_runtime.errors import SourceError
from edge_runtime.video.samples import SAMPLES

WORLD = "world"
WORLD_CLIP = SAMPLES / "sample.mp4"
"""The clip that comes with the program, drawn by the world the shipped model was trained on."""


class LoopedClip:
    """``next()``: the next frame of the clip, uint8 [H, W, 3] RGB. For one thread at a time.

    ``first_lap``: streams that show the same clip start at different laps, so that they differ as well.
    """

    def __init__(self, path: Path, first_lap: int = 0) -> None:
        self._path = path
        self._lap = first_lap
        self._frames: Iterator[NDArray[np.uint8]] = iter(())
        self.size = self._look()

    def next(self) -> NDArray[np.uint8]:
        """Raises SourceError for a clip that cannot be decoded."""
        for _ in range(2):  # the rest of this lap, or the next one
            frame = next(self._frames, None)
            if frame is not None:
                return changed(frame, self._lap)
            self._lap += 1
            self._frames = self._decode()
        raise SourceError(f"{self._path}: no frame could be decoded; choose another --source")

    def _look(self) -> tuple[int, int]:
        """Width and height. Raises SourceError when there is nothing to decode."""
        try:
            with av.open(str(self._path)) as container:
                if not container.streams.video:
                    raise SourceError(f"{self._path}: no video stream in it; choose another --source")
                video = container.streams.video[0]
                return video.width, video.height
        except (FFmpegError, OSError) as error:
            raise self._broken(error) from error

    def _decode(self) -> Iterator[NDArray[np.uint8]]:
        try:
            with av.open(str(self._path)) as container:
                for frame in container.decode(video=0):
                    yield frame.to_ndarray(format="rgb24")
        except (FFmpegError, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> SourceError:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return SourceError(f"{self._path}: cannot be decoded ({reason}); choose another --source")


def changed(frame: NDArray[np.uint8], lap: int) -> NDArray[np.uint8]:
    """The frame as lap ``lap`` shows it: shifted, and its brightness moved within +-8 of 255."""
    shifted = np.roll(frame, (lap * 3, lap * 5), axis=(0, 1))
    offset = lap * 7 % 17 - 8
    # Saturating: a wrapped value would turn white into black.
    if offset >= 0:
        return np.minimum(shifted, 255 - offset) + np.uint8(offset)
    return np.maximum(shifted, -offset) - np.uint8(-offset)
