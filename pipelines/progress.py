"""How far a source was read: counts and time stamps of the decoded pictures, wanted or not."""

from __future__ import annotations

import time

_NS = 1_000_000_000
_UNKNOWN_STEP_NS = 40_000_000
_MOST_GAPS = 100


class Progress:
    """Told of every decoded picture. Times in nanoseconds as the source stamps them."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._last_ns: int | None = None
        self._step_ns = 0
        self.decoded = 0
        self.corrupt = 0
        """Pictures the decoder marked as damaged."""
        self.end_ns = 0
        """Where the last picture ends."""
        self.gaps: list[tuple[float, float]] = []
        """Stretches of a file (start, end in seconds) without pictures: more than 1 s and 4 usual steps."""
        self.last_decoded_at = time.monotonic()

    def note(self, stamp_ns: int | None, duration_ns: int | None, corrupt: bool) -> int:
        """One more picture; returns its time stamp, made up from the ones before when it has none."""
        last_ns = self._last_ns
        if stamp_ns is None:
            stamp_ns = 0 if last_ns is None else last_ns + (self._step_ns or _UNKNOWN_STEP_NS)
        elif last_ns is not None and stamp_ns > last_ns:
            self._step_ns = min(stamp_ns - last_ns, self._step_ns or stamp_ns - last_ns)
        gap = not self._live and last_ns is not None and stamp_ns - last_ns > max(_NS, 4 * self._step_ns)
        if gap and len(self.gaps) < _MOST_GAPS:
            self.gaps.append(((last_ns or 0) / _NS, stamp_ns / _NS))
        self._last_ns = stamp_ns
        self.end_ns = max(self.end_ns, stamp_ns + (self._step_ns or duration_ns or 0))
        self.decoded += 1
        self.corrupt += corrupt
        self.last_decoded_at = time.monotonic()
        return stamp_ns
