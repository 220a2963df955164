"""A camera's frames as the JPEG data URLs that requests hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.engine.endpoint.protocol import data_url
from edge_runtime.engine.preprocess import check_frame


class EndpointFrames:
    """Frames of one stream to data URLs. For one thread at a time.

    Cameras letterbox frames to a square. The bars are cut off again, or a server would be paid for looking at
    them: on both sides as far as no frame of the stream has shown anything there yet.
    """

    def __init__(self, frame_size: int) -> None:
        self._frame_size = frame_size
        self._bars: tuple[int, int] | None = None

    def preprocess(self, frame: Any) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB -> the same without bars."""
        checked = check_frame(frame)
        seen: NDArray[np.bool_] = np.any(checked, axis=2)
        if not seen.any():
            return self._cut(checked)
        rows, columns = _bar(np.any(seen, axis=1)), _bar(np.any(seen, axis=0))
        if self._bars is not None:
            rows, columns = min(rows, self._bars[0]), min(columns, self._bars[1])
        self._bars = rows, columns
        return self._cut(checked)

    def encode(self, pixels: NDArray[np.uint8]) -> str:
        return data_url(pixels, self._frame_size)

    def reset(self) -> None:
        """Nothing: the bars are those of the camera."""

    def _cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows, columns = self._bars or (0, 0)
        return frame[rows : frame.shape[0] - rows, columns : frame.shape[1] - columns]


def _bar(shows: NDArray[np.bool_]) -> int:
    """How many lines at both ends show nothing."""
    return int(min(shows.argmax(), shows[::-1].argmax()))
