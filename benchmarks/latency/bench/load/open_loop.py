"""Open-loop load: frames come when they are due, whether or not the one before has been dealt with.

A closed loop hands out the next frame when the last one is done, which hides every stall. Here each stream
has a timetable made beforehand; a frame's age counts from the time it was due, also when the feeder itself
was late, and a frame that the model had no time for is counted as dropped. As with a camera, the newest
frame of each stream waits, and as many before it as the model is to catch up on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Schedule:
    """``streams`` cameras of ``rate`` frames a second for ``duration_s`` from ``start`` on (clock seconds).

    Streams are shifted against each other by equal parts of an interval: cameras do not tick together.
    """

    rate: float
    streams: int
    start: float
    duration_s: float

    def due(self, stream: int, number: int) -> float:
        """When frame ``number`` (0 is the first) of a stream is due."""
        return self.start + (number + stream / self.streams) / self.rate

    def count(self, stream: int) -> int:
        """Frames of a stream that are due before the end."""
        return max(0, math.ceil(self.duration_s * self.rate - stream / self.streams - 1e-9))

    @property
    def offered(self) -> int:
        return sum(self.count(stream) for stream in range(self.streams))

    @property
    def end(self) -> float:
        return self.start + self.duration_s


@dataclass(frozen=True, eq=False)
class Arrival:
    """A frame that came. Times are clock seconds; a stage that is not known is None."""

    stream: int
    number: int
    due: float
    """By timetable; of a camera's frame: its capture."""
    ready: float
    """Decoded and handed over."""
    image: NDArray[np.uint8]
    """uint8 [H, W, 3] RGB."""
    started: float | None = None
    """When its decoding began; None where somebody else decodes."""


@dataclass
class Slots:
    """Where frames wait: the newest of each stream and ``catch_up`` before it. The oldest beyond that is
    dropped and counted. Thread-safe.
    """

    streams: int
    catch_up: int = 0
    dropped: list[tuple[int, float]] = field(default_factory=list)
    """Stream and due time of each frame that was replaced, or that never came."""
    longest_drop_run: int = 0

    def __post_init__(self) -> None:
        self._waiting: list[Arrival] = []
        self._runs = [0] * self.streams
        self._feeding = self.streams
        self._changed = threading.Condition()

    def put(self, arrival: Arrival) -> None:
        with self._changed:
            waiting = [other for other in self._waiting if other.stream == arrival.stream]
            if len(waiting) > self.catch_up:
                self._waiting.remove(waiting[0])
                self._drop(arrival.stream, waiting[0].due)
            self._waiting.append(arrival)
            self._changed.notify()

    def never_came(self, stream: int, due: float) -> None:
        """A frame that its feeder was too far behind to make."""
        with self._changed:
            self._drop(stream, due)

    def take(self, timeout_s: float) -> Arrival | None:
        """The frame that has waited longest; None when none came in time."""
        with self._changed:
            if not self._waiting and self._feeding:
                self._changed.wait(timeout_s)
            if not self._waiting:
                return None
            oldest = min(self._waiting, key=lambda arrival: arrival.due)
            self._runs[oldest.stream] = 0
            self._waiting.remove(oldest)
            return oldest

    def feeder_done(self) -> None:
        with self._changed:
            self._feeding -= 1
            self._changed.notify()

    @property
    def over(self) -> bool:
        """No feeder is left and nothing waits."""
        with self._changed:
            return self._feeding <= 0 and not self._waiting

    def _drop(self, stream: int, due: float) -> None:
        self.dropped.append((stream, due))
        self._runs[stream] += 1
        self.longest_drop_run = max(self.longest_drop_run, self._runs[stream])


def feed(
    schedule: Schedule,
    stream: int,
    frame: Callable[[], NDArray[np.uint8]],
    slots: Slots,
    clock: Callable[[], float],
    wait: Callable[[float], Any],
    grace_s: float = 1.0,
) -> None:
    """Put each frame of a stream when it is due. A frame never waits for the one before to be processed.

    ``wait`` sleeps for so many seconds and returns something true to end the feed. A feeder that is slower
    than its timetable goes on until ``grace_s`` after the end; what is left then never came.
    """
    for number in range(schedule.count(stream)):
        due = schedule.due(stream, number)
        while (ahead := due - clock()) > 0:
            if wait(ahead):
                return
        started = clock()
        if started > schedule.end + grace_s:
            slots.never_came(stream, due)
            continue
        image = frame()
        slots.put(Arrival(stream, number, due, clock(), image, started))
