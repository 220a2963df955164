"""Which frame belongs to which timestep: the one rule every source of frames follows.

Timestep ``k`` covers ``[k / fps, (k + 1) / fps]``. Its frame is the first one at or after the end of the
interval (less a small slack), because that is the latest picture of what happened in it: the decision that
carries the time ``(k + 1) / fps`` has then really seen the video up to that time, and nothing later.
The slack lets a clip whose last frame lies one frame duration before its end close its last interval.
"""

from __future__ import annotations

SLACK = 0.15
"""Share of an interval by which a frame may come before the interval's end."""

LEAST_FPS = 1e-4
"""One timestep in about three hours; the seconds of far fewer do not fit into 64-bit nanoseconds."""

_NS = 1_000_000_000


class TimestepSampler:
    """Chooses frames by their time stamps. Frames in between are dropped; time stamps decide, not arrival.

    >>> sampler = TimestepSampler(fps=1.0)
    >>> [sampler.take(t) for t in (0.0, 0.5, 0.9, 1.4, 1.9, 4.0)]
    [None, None, 0, None, 1, 3]
    """

    def __init__(self, fps: float) -> None:
        if not LEAST_FPS <= fps < float("inf"):
            raise ValueError(f"fps must be at least {LEAST_FPS:g}, got {fps:g}")
        self._period_ns = round(_NS / fps)
        self._next = 0

    def take(self, pts_s: float) -> int | None:
        """Index of the timestep this frame closes, or None when the frame is not needed.

        ``pts_s``: seconds from the start of the stream. A gap skips timesteps; their indices never come back.
        """
        slack_ns = round(self._period_ns * SLACK)
        index = (round(pts_s * _NS) + slack_ns) // self._period_ns - 1
        if index < self._next:
            return None
        self._next = int(index) + 1
        return int(index)

    def reset(self) -> None:
        """Start again at timestep 0, as for a new stream."""
        self._next = 0
