"""Arrivals keep their timetable whatever the model does, and every frame is accounted for."""

from collections import deque

import numpy as np
import pytest

from benchmarks.latency.bench.load.open_loop import Arrival, Schedule, Slots, feed

IMAGE = np.zeros((2, 2, 3), np.uint8)


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def arrival(stream, number, due):
    return Arrival(stream, number, due, due, IMAGE)


def test_streams_are_shifted_and_each_has_its_frames():
    schedule = Schedule(rate=4, streams=2, start=10.0, duration_s=1.0)
    assert [schedule.due(0, k) for k in range(4)] == [10.0, 10.25, 10.5, 10.75]
    assert [schedule.due(1, k) for k in range(4)] == [10.125, 10.375, 10.625, 10.875]
    assert (schedule.count(0), schedule.count(1), schedule.offered) == (4, 4, 8)


def test_a_frame_due_at_the_very_end_is_not_offered():
    assert Schedule(10, 1, 0.0, 0.3).count(0) == 3
    assert Schedule(10, 4, 0.0, 0.01).offered == 1  # only the first stream's first frame is due


def test_frames_come_when_they_are_due():
    clock, slots = FakeClock(), Slots(1)
    seen = []
    slots.put = seen.append
    feed(Schedule(10, 1, 100.5, 0.5), 0, lambda: IMAGE, slots, clock, clock.wait)
    assert [a.due for a in seen] == pytest.approx([100.5, 100.6, 100.7, 100.8, 100.9])
    assert [a.started - a.due for a in seen] == pytest.approx([0] * 5, abs=1e-9)


def test_a_stall_makes_frames_late_and_skips_none():
    clock, slots = FakeClock(), Slots(1)
    seen = []
    slots.put = seen.append
    costs = deque([0.35, 0.0, 0.0, 0.0, 0.0])

    def picture():
        clock.now += costs.popleft()
        return IMAGE

    feed(Schedule(10, 1, 100.0, 0.5), 0, picture, slots, clock, clock.wait)
    assert [a.number for a in seen] == [0, 1, 2, 3, 4]
    lateness = [a.started - a.due for a in seen]
    assert lateness == pytest.approx([0.0, 0.25, 0.15, 0.05, 0.0], abs=1e-9)


def test_what_a_slow_feeder_never_makes_is_dropped_and_counted():
    clock, slots = FakeClock(), Slots(1)
    made = []

    def picture():
        clock.now += 1.0
        made.append(clock.now)
        return IMAGE

    schedule = Schedule(10, 1, 100.0, 2.0)
    feed(schedule, 0, picture, slots, clock, clock.wait, grace_s=1.0)
    taken = 1 if slots.take(0) else 0
    assert len(made) == 4  # begun at 0, 1, 2 and 3 s: the last one still within the grace
    assert len(slots.dropped) + taken == schedule.offered == 20


def test_the_newest_frame_wins_and_runs_of_drops_are_counted_per_stream():
    slots = Slots(2)
    for number in range(4):
        slots.put(arrival(0, number, number / 10))
    slots.put(arrival(1, 0, 0.05))
    assert slots.take(0).stream == 1  # it was due first of those that wait
    assert slots.take(0).number == 3
    assert slots.take(0) is None
    slots.put(arrival(0, 4, 0.4))
    slots.put(arrival(0, 5, 0.5))
    assert [due for _, due in slots.dropped] == [0.0, 0.1, 0.2, 0.4]
    assert slots.longest_drop_run == 3


def test_catching_up_keeps_frames_of_each_stream_up_to_a_bound():
    slots = Slots(2, catch_up=2)
    for number in range(5):
        slots.put(arrival(0, number, number / 10))
    slots.put(arrival(1, 0, 0.25))
    assert [due for _, due in slots.dropped] == [0.0, 0.1]
    taken = [slots.take(0) for _ in range(4)]
    assert [(one.stream, one.number) for one in taken] == [(0, 2), (1, 0), (0, 3), (0, 4)]
    assert slots.take(0) is None


@pytest.mark.parametrize(("catch_up", "dropped"), [(0, 60), (4, 0)])
def test_a_model_that_keeps_pace_while_silent_drops_nothing_when_it_catches_up(catch_up, dropped):
    """10 frames a second, 43 ms a timestep and 362 ms more for a response at every 50th."""
    slots, now, put, decided, oldest = Slots(1, catch_up), 0.0, 0, 0, 0.0
    while not slots.over:
        while put < 1_100 and put / 10 <= now:
            slots.put(arrival(0, put, put / 10))
            put += 1
            if put == 1_100:
                slots.feeder_done()
        if decided + len(slots.dropped) == put:  # nothing waits
            now = put / 10
            continue
        taken = slots.take(0)
        decided += 1
        now += 0.043 + (0.362 if decided % 50 == 0 else 0.0)
        oldest = max(oldest, now - taken.due)
    assert (decided, len(slots.dropped)) == (1_100 - dropped, dropped)
    assert oldest < 0.5


def test_over_when_the_feeders_are_gone_and_nothing_waits():
    slots = Slots(1)
    slots.put(arrival(0, 0, 0.0))
    slots.feeder_done()
    assert not slots.over
    slots.take(0)
    assert slots.over


def test_a_stopped_feed_ends_at_once():
    clock, slots = FakeClock(), Slots(1)
    feed(Schedule(1, 1, 200.0, 10.0), 0, lambda: IMAGE, slots, clock, lambda seconds: True)
    assert slots.take(0) is None
    assert clock.now == 100.0
