"""One open-loop run: a feeder thread per stream, the model in the calling thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.bench.load.open_loop import Arrival, Schedule, Slots, feed
from benchmarks.latency.bench.load.watcher import Sample
from benchmarks.latency.facts import resident_mb

_POLL_S = 0.2
"""How long the model waits for a frame before it looks whether there will be any more."""

NextFrame = Callable[[], NDArray[np.uint8]]
Feeder = Callable[[int, Slots, threading.Event], None]
OnSecond = Callable[[float, int], None]
"""Is called about once a second with the seconds since the start and the decisions so far."""


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
    cpu_s: float | None = None
    """Processor time of the process during the run, all of its threads."""

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
    frames: Sequence[NextFrame],
    step: Callable[[Arrival], Sample],
    on_second: OnSecond = lambda elapsed, done: None,
    *,
    catch_up: int = 0,
) -> Run:
    """Load ``step`` with one stream per entry of ``frames``; each entry is called in a thread of its own.

    ``catch_up``: see :class:`~benchmarks.latency.bench.load.open_loop.Slots`. Ctrl-C ends the run early and
    keeps what was measured. Errors of ``frames`` and ``step`` are raised.
    """
    # A moment ahead, so that the threads stand ready when the first frame is due.
    schedule = Schedule(rate, len(frames), time.monotonic() + 0.05, duration_s)
    grace_s = max(1.0, 2 / rate)

    def feeder(stream: int, slots: Slots, stop: threading.Event) -> None:
        feed(schedule, stream, frames[stream], slots, time.monotonic, stop.wait, grace_s)

    return run_feeders(schedule, feeder, step, on_second, schedule.offered, catch_up=catch_up)


def run_feeders(
    schedule: Schedule,
    feeder: Feeder,
    step: Callable[[Arrival], Sample],
    on_second: OnSecond,
    offered: int | None,
    *,
    catch_up: int = 0,
) -> Run:
    """As :func:`run_open_loop`, with ``feeder(stream, slots, stop)`` in a thread per stream. ``offered``:
    None when only the feeders know what came.
    """
    clock = time.monotonic
    slots = Slots(schedule.streams, catch_up)
    stop = threading.Event()
    errors: list[BaseException] = []

    def run_feeder(stream: int) -> None:
        try:
            feeder(stream, slots, stop)
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            slots.feeder_done()

    threads = [
        threading.Thread(target=run_feeder, args=(stream,), name=f"feeder {stream}", daemon=True)
        for stream in range(schedule.streams)
    ]
    samples: list[Sample] = []
    resident: list[tuple[float, float]] = []
    next_look, interrupted = schedule.start, False
    cpu_before = time.process_time()
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
    cpu_s = time.process_time() - cpu_before
    if errors:
        raise errors[0]
    lasted = schedule.duration_s
    if interrupted:  # what waited or was not due yet is neither processed nor dropped
        lasted = max(0.0, clock() - schedule.start)
    if interrupted or offered is None:
        offered = len(samples) + len(slots.dropped)
    return Run(
        schedule.start,
        lasted,
        schedule.rate,
        schedule.streams,
        offered,
        samples,
        slots.dropped,
        slots.longest_drop_run,
        resident,
        interrupted,
        cpu_s,
    )
