"""The size of a frame: given, or from the aspect of the camera, so that no bars are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from export.errors import ExportError

_ASPECT = re.compile(r"(\d{1,3}):(\d{1,3})@(\d{2,5})")
_EXACT = re.compile(r"(\d{2,5})x(\d{2,5})")


@dataclass(frozen=True)
class FrameSize:
    """``aspect``: width and height of the camera's frames in any unit; None for an exact size.

    ``height``, ``width`` in pixels; with an aspect they are the wish that :meth:`fitted` rounds.
    """

    height: float
    width: float
    exact: bool

    def fitted(self, cell: int) -> tuple[int, int]:
        """Return height and width in multiples of ``cell`` pixels. Raises ExportError for an exact size
        that is none.
        """
        if self.exact and (self.height % cell or self.width % cell):
            raise ExportError(
                f"--frame {self.width:g}x{self.height:g}: this model needs multiples of {cell} pixels; "
                f"the nearest is {_round(self.width, cell)}x{_round(self.height, cell)}"
            )
        return _round(self.height, cell), _round(self.width, cell)


def parse_frame(text: str) -> FrameSize:
    """Read ``16:9@224`` (aspect, and pixels of the shorter side) or ``384x224`` (width, height).

    Raises ExportError.
    """
    if match := _EXACT.fullmatch(text):
        return FrameSize(float(match[2]), float(match[1]), exact=True)
    match = _ASPECT.fullmatch(text)
    if match is None or "0" in (match[1].strip("0") or "0", match[2].strip("0") or "0"):
        raise ExportError(
            f"--frame {text}: expected the camera's aspect and the pixels of the shorter side, such as "
            "16:9@224, or width and height, such as 384x224"
        )
    across, down, side = (float(part) for part in match.groups())
    if across >= down:
        return FrameSize(side, side * across / down, exact=False)
    return FrameSize(side * down / across, side, exact=False)


def _round(pixels: float, cell: int) -> int:
    return max(round(pixels / cell), 1) * cell
