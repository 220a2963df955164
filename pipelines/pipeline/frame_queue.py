"""The hand-over between GStreamer's threads and whoever iterates over a camera.

Live: the newest frame waits, and as many before it as the consumer wants to catch up on; the oldest beyond
that is dropped and counted. Files: a few frames may wait, then the producer blocks. State records share the
queue, so that their order among the frames is kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.errors import SourceError

_POLL_S = 0.1
"""Longest sleep inside a wait, so that Ctrl-C is answered in the main thread."""
_KEPT_STATES = 64
"""Most state records that wait: a camera that flaps for days must not fill the memory."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One selected frame."""

    pts: float
    """Seconds: from the start of the file, or from the first frame of a live source."""
    image: np.ndarray
    """``uint8 [H, W, 3]`` RGB, letterboxed to the asked size; owned by the receiver. Where frames are
    compared, one that shows nothing new has the very array of the one before."""
    captured_at: float
    """``time.monotonic()`` of the capture: live, by the frame's time stamp; a file, when decoded."""
    index: int
    """The timestep this frame closes, as :class:`edge_runtime.video.sampling.TimestepSampler` counts."""
    moment: Any = None
    """What evidence of it is made from (:mod:`pipelines.evidence.moment`); None when none is kept."""
    picture: Any = None
    """It at the size of the video (:class:`pipelines.evidence.moment.Picture`); None without viewers."""


@dataclass(frozen=True)
class StateChange:
    """What a source does: connecting, live, stalled, auth-failed, ended or failed; and why in words."""

    state: str
    cause: str = ""


class FrameQueue:
    """See the module's text. ``capacity`` counts frames of a file; ``newest_only`` makes it the live kind, in
    which ``catch_up`` frames may wait beside the newest.

    ``wake`` is called, from whatever thread, when there is something new to get: for who waits for several.
    """

    def __init__(
        self,
        *,
        newest_only: bool,
        capacity: int = 4,
        catch_up: int = 0,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._wake = wake
        self._catch_up = catch_up
        self.newest_only = newest_only
        """May be set anew before the first frame."""
        self.capacity = capacity
        self.dropped = 0
        self.longest_drop_run = 0
        self._run = 0
        self._frames = 0
        self._items: deque[Frame | StateChange] = deque()
        self._end: SourceError | bool = False
        self._closed = False
        # Reentrant: a signal handler may close the camera in the thread that is inside one of these methods.
        self._changed = threading.Condition(threading.RLock())

    @property
    def full(self) -> bool:
        """True when the producer of a file is waiting for its consumer."""
        return not self.newest_only and self._frames >= self.capacity

    def put_frame(self, frame: Frame) -> bool:
        """Hand over a frame; False when the queue is closed. Blocks only for files."""
        with self._changed:
            while self.full and not self._closed:
                self._changed.wait(_POLL_S)
            if self._closed or self._end:
                return False
            if self.newest_only and self._frames > self._catch_up:
                self._drop_oldest()
            self._items.append(frame)
            self._frames += 1
            self._announce()
            return True

    def put_state(self, change: StateChange) -> None:
        with self._changed:
            if sum(isinstance(item, StateChange) for item in self._items) >= _KEPT_STATES:
                self._items.remove(next(item for item in self._items if isinstance(item, StateChange)))
            self._items.append(change)
            self._announce()

    def end(self, error: SourceError | None = None) -> None:
        """No more will come: what is waiting is still delivered, then iteration stops or raises ``error``."""
        with self._changed:
            if not self._end:
                self._end = error or True
            self._announce()

    def close(self) -> None:
        """Drop what is waiting and release both sides."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._frames = 0
            self._announce()

    def get(self, timeout_s: float | None = None) -> Frame | StateChange | None:
        """The next item, or None after ``timeout_s``. At the end: StopIteration or SourceError."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._items:
                if self._closed or self._end is True:
                    raise StopIteration
                if isinstance(self._end, SourceError):
                    error, self._end = self._end, True
                    raise error
                left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
                if left <= 0:
                    return None
                self._changed.wait(left)
            item = self._items.popleft()
            if isinstance(item, Frame):
                self._frames -= 1
                self._run = 0
                self._changed.notify_all()
            return item

    def _announce(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    def _drop_oldest(self) -> None:
        waiting = next(item for item in self._items if isinstance(item, Frame))
        self._items.remove(waiting)
        self._frames -= 1
        self.dropped += 1
        self._run += 1
        self.longest_drop_run = max(self.longest_drop_run, self._run)
