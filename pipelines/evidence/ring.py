"""The newest encoded video of one connection, kept by seconds and bytes, and the clips cut from it.

Video is kept in groups that begin at key frames, so a clip can start at any of them. A group belongs to the
ring and to every clip that needs it: overlapping clips share their bytes.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.video.framing import Polygon

_NS = 1_000_000_000
JUMP_NS = 5 * _NS
"""Time stamps this far apart do not belong to one clip."""
_BACK_NS = 2 * _NS


@dataclass(frozen=True)
class Footage:
    """What is kept for evidence."""

    pre_s: float = 5.0
    """Seconds before a response that a clip shows."""
    max_bytes: int = 64 << 20
    """Most encoded video that is kept; a clip holds twice as much at most."""
    picture: bool = True
    """Keep the frame that was decided on, at full size."""
    clip: bool = True
    """Keep encoded video."""


@dataclass(frozen=True)
class Unit:
    """One coded frame. Times in nanoseconds on the source's own line."""

    data: bytes
    shown_ns: int
    decoded_ns: int
    """When it is due at the decoder: not after ``shown_ns``."""


@dataclass(eq=False)
class Group:
    """A key frame and what depends on it."""

    masks: set[Polygon]
    """Every privacy mask that was in force while it came."""
    units: list[Unit] = field(default_factory=list)
    size: int = 0


class Recording:
    """A clip that is being recorded or was. ``on_done`` is called once it needs no more video, on any thread.

    ``at_s``: the second of the clip at which its moment is shown.
    """

    def __init__(self, caps: str, groups: list[Group], stamp_ns: int, end_ns: int) -> None:
        self.caps = caps
        self._groups = groups
        self._start_ns = groups[0].units[0].shown_ns
        self._end_ns = end_ns
        self.at_s = (stamp_ns - self._start_ns) / _NS
        self.on_done: Callable[[Recording], None] | None = None

    @property
    def masks(self) -> tuple[Polygon, ...]:
        """Every privacy mask that was in force at some time of the clip."""
        return tuple(sorted(set().union(*(group.masks for group in self._groups))))

    def units(self) -> list[Unit]:
        """In the order of decoding, up to the end. Of the first group only what does not come before its key
        frame: that may depend on the group before.
        """
        found: list[Unit] = []
        for group in self._groups:
            for unit in group.units:
                if unit.decoded_ns >= self._end_ns and found:
                    return found
                if unit.shown_ns >= self._start_ns or group is not self._groups[0]:
                    found.append(unit)
        return found

    @property
    def size(self) -> int:
        return sum(group.size for group in self._groups)

    def add_group(self, group: Group) -> None:
        self._groups.append(group)

    def is_complete(self) -> bool:
        return any(unit.decoded_ns >= self._end_ns for unit in self._groups[-1].units[-1:])

    def cut(self) -> None:
        """End it with what there is."""
        last = self._groups[-1].units[-1:]
        if last:
            self._end_ns = min(self._end_ns, last[0].decoded_ns + 1)


class Ring:
    """Encoded video of one format. For any number of threads.

    ``caps``: the format in GStreamer's words.
    """

    def __init__(self, caps: str, footage: Footage, masks: Iterable[Polygon]) -> None:
        self.caps = caps
        self._footage = footage
        self._masks = set(masks)
        self._groups: deque[Group] = deque()
        self._size = 0
        self._open: list[Recording] = []
        self._needed: deque[tuple[int, weakref.ref[Any]]] = deque()
        """Moments that may still ask for a clip, with their time stamps."""
        self._lock = threading.Lock()
        self.ended = False
        self.overflowed = False
        """True once less than the asked seconds fit into the bytes."""

    def follows(self, shown_ns: int) -> bool:
        """False when a frame of this time stamp does not belong behind the newest one."""
        with self._lock:
            if not self._groups:
                return True
            newest = self._groups[-1].units[-1].shown_ns
        return newest - _BACK_NS < shown_ns < newest + JUMP_NS

    def holds(self, stamp_ns: int) -> bool:
        """True when a frame of this time stamp may be in here."""
        with self._lock:
            return bool(self._groups) and (
                self._groups[0].units[0].shown_ns <= stamp_ns <= self._groups[-1].units[-1].shown_ns + _NS
            )

    def add(self, unit: Unit, *, key: bool) -> None:
        """Keep one more coded frame; before the first key frame none is of use."""
        with self._lock:
            if self.ended or not (key or self._groups):
                return
            if key:
                group = Group(set(self._masks))
                self._groups.append(group)
                for recording in self._open:
                    recording.add_group(group)
            group = self._groups[-1]
            group.units.append(unit)
            group.size += len(unit.data)
            self._size += len(unit.data)
            done = [one for one in self._open if one.is_complete()]
            if self._size > self._footage.max_bytes:
                self._make_room()
                done += [one for one in self._open if one.size > 2 * self._footage.max_bytes]
            self._close(done)
        _tell(done)

    def need(self, moment: Any, stamp_ns: int) -> None:
        """Keep what a clip of ``moment`` would show for as long as ``moment`` exists; drop what is older."""
        with self._lock:
            self._needed.append((stamp_ns, weakref.ref(moment)))
            while len(self._needed) > 1 and self._needed[0][1]() is None:
                self._needed.popleft()
            oldest = min(stamp for stamp, _ in self._needed) - round(self._footage.pre_s * _NS)
            while len(self._groups) > 1 and self._groups[1].units[0].shown_ns <= oldest:
                self._size -= self._groups.popleft().size

    def record(
        self, stamp_ns: int, pre_s: float, post_s: float, on_done: Callable[[Recording], None]
    ) -> Recording | None:
        """Start a clip about the moment ``stamp_ns``; it ends ``post_s`` later or with the connection.

        ``on_done(recording)`` is called once, maybe at once and on this thread. None when there is no video.
        """
        with self._lock:
            groups = self._from(stamp_ns - round(pre_s * _NS))
            if not groups or groups[0].units[0].shown_ns > stamp_ns:
                return None
            recording = Recording(self.caps, groups, stamp_ns, stamp_ns + round(post_s * _NS))
            recording.on_done = on_done
            self._open.append(recording)
            done = [recording] if self.ended or recording.is_complete() else []
            self._close(done)
        _tell(done)
        return recording

    def set_masks(self, masks: Iterable[Polygon]) -> None:
        """Other masks are in force from now on; what is already here may be seen through both."""
        with self._lock:
            self._masks = set(masks)
            if self._groups:
                self._groups[-1].masks.update(self._masks)

    def end(self) -> None:
        """No more video will come: clips end with what there is."""
        with self._lock:
            self.ended = True
            done = list(self._open)
            self._close(done)
        _tell(done)

    def _from(self, start_ns: int) -> list[Group]:
        """The groups from the last key frame at or before ``start_ns`` on."""
        groups = list(self._groups)
        while len(groups) > 1 and groups[1].units[0].shown_ns <= start_ns:
            groups.pop(0)
        return groups

    def _make_room(self) -> None:
        while self._size > self._footage.max_bytes and self._groups:
            self._size -= self._groups.popleft().size
            self.overflowed = True

    def _close(self, done: list[Recording]) -> None:
        for recording in done:
            if recording in self._open:
                self._open.remove(recording)
            recording.cut()


def _tell(done: list[Recording]) -> None:
    for recording in done:
        if (on_done := recording.on_done) is not None:
            recording.on_done = None
            on_done(recording)
