"""Time stamps of one or many connections become seconds on a single line that never runs backwards.

A file's times count from its first frame already and are kept. A live source starts at 0 with its first
frame. After a reconnect, or when the camera's clock jumps, the line goes on by this machine's clock:
timesteps keep their meaning.
"""

from __future__ import annotations

_NS = 1_000_000_000
JUMP_S = 5.0
"""A camera's clock this far from ours is taken to have jumped."""
BACKWARDS_S = 0.5


class Timeline:
    """Places raw time stamps. ``live`` as of the source."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._origin: float | None = None
        """Monotonic time of the first frame of all."""
        self._anchor: tuple[int, float] | None = None
        """(raw time stamp, seconds on the line) of this connection's first frame."""
        self._last = 0.0

    def new_connection(self) -> None:
        """The next frame comes from a new connection; its raw time stamps start anywhere."""
        self._anchor = None

    def place(self, raw_ns: int, now: float) -> float:
        """Seconds on the line of a frame stamped ``raw_ns`` that arrived at monotonic time ``now``."""
        if not self._live:
            return raw_ns / _NS
        if self._origin is None:
            self._origin = now
        elapsed = now - self._origin
        if self._anchor is None:
            self._anchor = (raw_ns, max(elapsed, self._last))
        seconds = self._anchor[1] + (raw_ns - self._anchor[0]) / _NS
        if seconds < self._last - BACKWARDS_S or abs(seconds - elapsed) > JUMP_S:
            self._anchor = (raw_ns, max(elapsed, self._last))
            seconds = self._anchor[1]
        self._last = max(self._last, seconds)
        return seconds
