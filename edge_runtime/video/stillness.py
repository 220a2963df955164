"""Whether a frame shows anything new against the last one that was kept.

A frame is reduced to the means of blocks, 80 in a row. An object as large as a block and a half covers at
least half of one block wherever it is, and changes its mean; noise of single pixels hardly does. A frame is
new when the mean of one block in one component (luma, or a colour) has changed by more than
:data:`LEAST_CHANGE`; where sensor and encoder are noisy, by up to :data:`MOST_CHANGE`. So a camera
that shakes shows new frames. All frames are compared with the last new one: what changes slowly counts once
it has added up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_CHANGE = 4.0
"""Of 256 levels, in the mean of a block. What is less is taken for noise or for light that changes slowly."""
MOST_CHANGE = 8.0
"""What is more is new, whatever the noise."""
_NOISE_FACTOR = 7.0
"""Times the standard deviation of the blocks' differences, estimated from their deviations from the median:
light that changes everywhere is no noise."""
_BLOCKS = 80
_SAMPLES = 8
"""Pixels of a block that are looked at, in a row and in a column: enough against noise, and the cost of a
large frame is that of a small one."""
_LEAST_PIXELS = 4

Plane = NDArray[np.uint8]
"""One component of a frame, [H, W]: luma, a colour difference, or red, green or blue."""
Blocks = NDArray[np.float32]


class Stillness:
    """Compares each frame with the last one that was new. For one thread at a time.

    ``hidden`` [H, W] of any size: where frames are not compared, because that part is masked or cut off.
    """

    def __init__(self, hidden: NDArray[np.bool_] | None = None) -> None:
        self._hidden = hidden
        self._seen: dict[tuple[int, ...], NDArray[np.bool_]] = {}
        self._kept: list[Blocks] = []

    def is_new(self, planes: Sequence[Plane]) -> bool:
        """True when the frame must be looked at; then the next ones are compared with it."""
        blocks = [block_means(plane) for plane in planes]
        kept = self._kept
        new = [one.shape for one in blocks] != [one.shape for one in kept] or any(
            _differ(one, other, self._seen_blocks(one.shape)) for one, other in zip(blocks, kept, strict=True)
        )
        if new:
            self._kept = blocks
        return new

    def forget(self) -> None:
        """Take the next frame for new."""
        self._kept = []

    def _seen_blocks(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Blocks of which no part is hidden; None for all."""
        if self._hidden is None:
            return None
        if shape not in self._seen:
            rows = np.arange(shape[0]) * self._hidden.shape[0] // shape[0]
            columns = np.arange(shape[1]) * self._hidden.shape[1] // shape[1]
            by_rows = np.logical_or.reduceat(self._hidden, rows, axis=0)
            self._seen[shape] = ~np.logical_or.reduceat(by_rows, columns, axis=1)
        return self._seen[shape]


def block_means(plane: Plane) -> Blocks:
    """The mean of each block [rows, columns]; less than half a block is left out at each edge."""
    height, width = plane.shape
    size = min(max(_LEAST_PIXELS, round(width / _BLOCKS)), height, width)
    step = max(1, size // _SAMPLES)
    size = size // step * step
    rows, columns = height // size, width // size
    samples = size // step
    top, left = (height - rows * size) // 2, (width - columns * size) // 2
    seen = plane[top : top + rows * size : step, left : left + columns * size : step]
    lines: NDArray[np.uint16] = seen[::samples].astype(np.uint16)
    for line in range(1, samples):
        lines += seen[line::samples]
    sums: Blocks = lines[:, ::samples].astype(np.float32)
    for column in range(1, samples):
        sums += lines[:, column::samples]
    sums /= samples * samples
    return sums


def _differ(now: Blocks, before: Blocks, seen: NDArray[np.bool_] | None) -> bool:
    difference = now - before if seen is None else (now - before)[seen]
    if not difference.size:
        return False
    noise = 1.48 * float(np.median(np.abs(difference - np.median(difference))))
    allowed = min(MOST_CHANGE, max(LEAST_CHANGE, _NOISE_FACTOR * noise))
    return float(np.abs(difference).max()) > allowed
