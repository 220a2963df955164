"""A pinhole camera over a ground plane.

Ground coordinates are metres: x to the right, y away from the camera, z up. Pictures are measured in shares
of their width and height, from the top left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR_M = 0.15
"""Points nearer than this, or behind the camera, are moved to this depth."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """``tilt``: radians downwards. ``focal``: focal length in picture widths. ``aspect``: width by height.

    ``roll`` is left out: cameras on walls are level, and a detector hardly minds.
    """

    height_m: float
    tilt: float
    focal: float
    aspect: float

    @classmethod
    def seeing(cls, *, height_m: float, look_at_m: float, field_of_view: float, aspect: float) -> Camera:
        """A camera whose centre line meets the ground ``look_at_m`` away.

        ``field_of_view``: degrees, sideways.
        """
        tilt = math.atan2(height_m, look_at_m)
        return cls(height_m, tilt, 0.5 / math.tan(math.radians(field_of_view) / 2), aspect)

    def project(self, points: Floats, position: Floats | None = None) -> tuple[Floats, Floats]:
        """Map points [..., 3] to places in the picture [..., 2], also outside 0..1, and depths [...] (m).

        ``position``: where the camera is, [..., 2] on the ground; the origin when it stands still.
        """
        x, y, z = np.moveaxis(points, -1, 0)
        if position is not None:
            x, y = x - position[..., 0], y - position[..., 1]
        z = z - self.height_m
        depth = y * math.cos(self.tilt) - z * math.sin(self.tilt)
        up = y * math.sin(self.tilt) + z * math.cos(self.tilt)
        safe = np.maximum(depth, NEAR_M)
        u = 0.5 + self.focal * x / safe
        v = 0.5 - self.focal * self.aspect * up / safe
        return np.stack([u, v], axis=-1), depth

    def boxes(self, base: Floats, size: Floats, position: Floats | None = None) -> tuple[Floats, Floats]:
        """Boxes around upright blocks.

        Args:
            base: [..., 3], the middle of each block's foot.
            size: [..., 3], width, depth and height in metres.

        Returns:
            Boxes [..., 4] as x1, y1, x2, y2, not cut at the borders, and the depth of each block's middle.
        """
        corners = np.array([[sx, sy, sz] for sx in (-0.5, 0.5) for sy in (-0.5, 0.5) for sz in (0.0, 1.0)])
        points = base[..., None, :] + corners * size[..., None, :]  # [..., 8, 3]
        where = None if position is None else position[..., None, :]
        places, _ = self.project(points, where)
        middle = base + np.array([0.0, 0.0, 0.5]) * size
        _, depth = self.project(middle, position)
        return np.concatenate([places.min(-2), places.max(-2)], axis=-1), depth

    def ground(self, u: float, v: float) -> tuple[float, float]:
        """The place on the ground that is seen at (u, v); ValueError above the horizon."""
        up = (0.5 - v) / (self.focal * self.aspect)
        # A ray (right, forward, up) = ((u - 0.5) / focal, 1, up), turned by the tilt.
        down = math.sin(self.tilt) - up * math.cos(self.tilt)
        if down <= 1e-6:
            raise ValueError(f"({u:.2f}, {v:.2f}) lies above the horizon")
        reach = self.height_m / down
        return reach * (u - 0.5) / self.focal, reach * (math.cos(self.tilt) + up * math.sin(self.tilt))
