"""One open-loop run: a feeder thread per stream, the model in the calling thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.bench.open_loop import Arrival, Schedule, Slots, feed
from benchmarks.latency.bench.watcher import Sample
from benchmarks.latency.facts import resident_mb

_POLL_S = 0.2
"""How long the model waits for a frame before it looks whether there will be any more."""

Picture = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class Run:
    """What came of one open-loop run."""

    start: float
    """Clock seconds; the first frame is due then."""
    duration_s: float
    rate: float
    streams: int
    offered: int
    samples: list[Sample]
    dropped: list[tuple[int, float]]
    """Stream and due time."""
    longest_drop_run: int
    resident: list[tuple[float, float]] = field(default_factory=list)
    """Clock seconds and MB, once a second."""
    interrupted: bool = False
    """Ctrl-C ended it early; the counts are of what was due until then."""

    @property
    def interval_ms(self) -> float:
        return 1e3 / self.rate

    @property
    def misses(self) -> int:
        """Decisions that came later than one frame interval after their frame was due."""
        return sum(sample.decision_ms > self.interval_ms for sample in self.samples)

    def staleness_ms(self) -> list[float]:
        """Age of the newest decided frame just before the next decision replaces it: the oldest it gets."""
        newest: dict[int, float] = {}
        ages = []
        for sample in self.samples:
            if sample.stream in newest:
                ages.append((sample.decided - newest[sample.stream]) * 1e3)
            newest[sample.stream] = sample.due
        return ages


def run_open_loop(
    rate: float,
    duration_s: float,
    pictures: Sequence[Picture],
    step: Callable[[Arrival], Sample],
    on_second: Callable[[float, int], None] = lambda elapsed, done: None,
) -> Run:
    """Load ``step`` with one stream per entry of ``pictures``; each entry is called in a thread of its own.

    Ctrl-C ends the run early and keeps what was measured. Errors of ``pictures`` and ``step`` are raised.
    """
    clock = time.monotonic
    # A moment ahead, so that the threads stand ready when the first frame is due.
    schedule = Schedule(rate, len(pictures), clock() + 0.05, duration_s)
    slots = Slots(len(pictures))
    stop = threading.Event()
    errors: list[BaseException] = []

    def feeder(stream: int, picture: Picture) -> None:
        try:
            feed(schedule, stream, picture, slots, clock, stop.wait, grace_s=max(1.0, 2 / rate))
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            slots.feeder_done()

    threads = [
        threading.Thread(target=feeder, args=(stream, picture), name=f"feeder {stream}", daemon=True)
        for stream, picture in enumerate(pictures)
    ]
    samples: list[Sample] = []
    resident: list[tuple[float, float]] = []
    next_look, interrupted = schedule.start, False
    for thread in threads:
        thread.start()
    try:
        while not slots.over and not errors:
            if (arrival := slots.take(_POLL_S)) is not None:
                samples.append(step(arrival))
            now = clock()
            if now >= next_look:
                next_look = now + 1.0
                if (held := resident_mb()) is not None:
                    resident.append((now, held))
                on_second(now - schedule.start, len(samples))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stop.set()
        for thread in threads:
            thread.join(5.0)
    if errors:
        raise errors[0]
    offered, lasted = schedule.offered, duration_s
    if interrupted:  # what waited or was not due yet is neither processed nor dropped
        lasted = max(0.0, clock() - schedule.start)
        offered = len(samples) + len(slots.dropped)
    return Run(
        schedule.start,
        lasted,
        rate,
        len(pictures),
        offered,
        samples,
        slots.dropped,
        slots.longest_drop_run,
        resident,
        interrupted,
    )
