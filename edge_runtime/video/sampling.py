"""Which frame belongs to which timestep: the one rule every source of frames follows.

Timestep ``k`` covers ``[k / fps, (k + 1) / fps]``. Its frame is the first one at or after the end of the
interval (less a small slack), because that is the latest frame of what happened in it: the decision that
carries the time ``(k + 1) / fps`` has then really seen the video up to that time, and nothing later.
The slack lets a clip whose last frame lies one frame duration before its end close its last interval.

A recorded video shows each frame until the next one comes, and the last one until the video ends. There an
interval that no frame closes takes the frame on screen (:meth:`TimestepSampler.passed`), and so does the last
interval when the video ends inside it (:meth:`TimestepSampler.rest`): none that has started is lost.
"""

from __future__ import annotations

SLACK = 0.15
"""Share of an interval by which a frame may come before the interval's end."""

LEAST_FPS = 1e-4
"""One timestep in about three hours; the seconds of far fewer do not fit into 64-bit nanoseconds."""

_NS = 1_000_000_000
_ROUNDING_NS = 1_000_000
"""Containers round time stamps to the millisecond."""


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
        index = self._closed_by(pts_s)
        if index < self._next:
            return None
        self._next = index + 1
        return index

    def passed(self, pts_s: float) -> range:
        """Timesteps that end before a frame at ``pts_s`` and that it does not close: the frame before it was
        on screen in all of them. They count as taken.
        """
        return self._take_until(self._closed_by(pts_s))

    def rest(self, last_s: float, end_s: float) -> range:
        """Timesteps that had started when a video ended at ``end_s`` and that no frame has closed. They count
        as taken.

        ``last_s``: where its last frame starts. The interval of that frame always counts; one that the frame
        only reaches into counts when it covers more than the slack. A video with a frame has a timestep.
        """
        by_start = (round(last_s * _NS) + _ROUNDING_NS) // self._period_ns + 1
        by_end = -(-(round(end_s * _NS) - round(self._period_ns * SLACK)) // self._period_ns)
        return self._take_until(max(by_start, by_end))

    def _closed_by(self, pts_s: float) -> int:
        return (round(pts_s * _NS) + round(self._period_ns * SLACK)) // self._period_ns - 1

    def _take_until(self, index: int) -> range:
        indices = range(self._next, max(self._next, index))
        self._next = indices.stop
        return indices

    def reset(self) -> None:
        """Start again at timestep 0, as for a new stream."""
        self._next = 0
