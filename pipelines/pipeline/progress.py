"""How far a source was read: counts and time stamps of the decoded frames, selected or not.

A recorded video starts at 0 with its first frame, whatever time its file starts at (a stream saved to disk,
a segment of a longer recording), and its time goes on when the stamps jump back (files joined end to end).
"""

from __future__ import annotations

import time

_NS = 1_000_000_000
_UNKNOWN_STEP_NS = 40_000_000
_MOST_GAPS = 100
LONGEST_STILL_NS = 60 * _NS
"""A frame within a video is taken to stay on screen for so long at most; what lasts longer is a gap."""
_JUMP_BACK_NS = 500_000_000


class Progress:
    """Notes every decoded frame. Times in nanoseconds: live, as the source stamps them; else from 0.

    ``stamped_at_end``: a stamp says where its frame ends (images in sequence), and nothing is moved to 0.
    """

    def __init__(self, *, live: bool, stamped_at_end: bool = False) -> None:
        self._live = live
        self._stamped_at_end = stamped_at_end
        self._as_stamped = live or stamped_at_end
        self._last_raw_ns: int | None = None
        self._moved_ns = 0
        self.start_ns = 0
        """The source's own stamp of the first frame of a video."""
        self.newest_raw_ns = 0
        """The latest of the source's own stamps."""
        self.last_ns = 0
        """Where the last frame starts."""
        self._last_ns: int | None = None
        self._step_ns = 0
        self.decoded = 0
        self.corrupt = 0
        """Frames the decoder marked as damaged."""
        self.end_ns = 0
        """Where the last frame ends."""
        self.gaps: list[tuple[float, float]] = []
        """Stretches of a file (start, end in seconds) without frames: more than 1 s and 4 usual steps, or
        more than a frame stays on screen."""
        self.last_decoded_at = time.monotonic()

    def note(self, stamp_ns: int | None, duration_ns: int | None, corrupt: bool) -> int:
        """One more frame; returns its time stamp, made up from the ones before when it has none."""
        last_ns = self._last_ns
        self.newest_raw_ns = max(self.newest_raw_ns, stamp_ns or 0)
        if stamp_ns is not None and not self._as_stamped:
            stamp_ns = self._from_start(stamp_ns)
        if stamp_ns is None:
            stamp_ns = 0 if last_ns is None else last_ns + (self._step_ns or _UNKNOWN_STEP_NS)
        elif last_ns is not None and stamp_ns > last_ns:
            self._step_ns = min(stamp_ns - last_ns, self._step_ns or stamp_ns - last_ns)
        gap = (
            not self._live
            and last_ns is not None
            and stamp_ns - last_ns > min(max(_NS, 4 * self._step_ns), LONGEST_STILL_NS)
        )
        if gap and len(self.gaps) < _MOST_GAPS:
            self.gaps.append(((last_ns or 0) / _NS, stamp_ns / _NS))
        self._last_ns = stamp_ns
        shown_ns = self._step_ns or duration_ns or 0
        self.last_ns = stamp_ns - shown_ns if self._stamped_at_end else stamp_ns
        self.end_ns = max(self.end_ns, self.last_ns + shown_ns)
        self.decoded += 1
        self.corrupt += corrupt
        self.last_decoded_at = time.monotonic()
        return stamp_ns

    def _from_start(self, raw_ns: int) -> int:
        """The time since the first frame of one that its file stamps ``raw_ns``."""
        before_ns, last_ns = self._last_raw_ns, self._last_ns
        self._last_raw_ns = raw_ns
        if last_ns is None:
            self.start_ns = self._moved_ns = raw_ns
        elif before_ns is None or raw_ns < before_ns - _JUMP_BACK_NS:
            self._moved_ns = raw_ns - last_ns - (self._step_ns or _UNKNOWN_STEP_NS)
        return raw_ns - self._moved_ns
