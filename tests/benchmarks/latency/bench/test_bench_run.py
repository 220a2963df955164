"""The run itself, with real threads and a model that is only a sleep."""

import time

import numpy as np
import pytest

from benchmarks.latency.bench.load.run import run_open_loop
from benchmarks.latency.bench.load.watcher import Sample
from edge_runtime.errors import SourceError

IMAGE = np.zeros((2, 2, 3), np.uint8)


def slow_model(seconds):
    def step(arrival):
        time.sleep(seconds)
        return Sample(arrival.stream, arrival.due, time.monotonic())

    return step


def test_a_model_that_is_too_slow_drops_frames_and_none_is_forgotten():
    run = run_open_loop(50.0, 0.6, [lambda: IMAGE] * 2, slow_model(0.05))
    assert run.offered == 60
    assert len(run.samples) + len(run.dropped) == 60
    assert len(run.samples) <= 16  # 50 ms each, in 0.6 s and what waited at its end
    assert run.longest_drop_run >= 2
    assert run.misses == len(run.samples)  # 50 ms and more are later than 20 ms


def test_latency_counts_from_the_timetable_and_not_from_the_taking():
    run = run_open_loop(20.0, 0.5, [lambda: IMAGE], slow_model(0.08))
    waited = [sample.decision_ms for sample in run.samples[1:]]
    assert min(waited) >= 80.0
    assert max(waited) > 85.0  # those that waited while the one before was in hand


def test_ctrl_c_keeps_what_was_measured():
    seen = []

    def step(arrival):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(arrival)
        return Sample(arrival.stream, arrival.due, time.monotonic())

    run = run_open_loop(50.0, 30.0, [lambda: IMAGE], step)
    assert run.interrupted
    assert len(run.samples) == 3
    assert run.offered == 3 + len(run.dropped)
    assert run.duration_s < 20


def test_a_source_that_breaks_ends_the_run_with_its_error():
    def picture():
        raise SourceError("clip.mp4: cannot be decoded")

    with pytest.raises(SourceError, match=r"clip\.mp4"):
        run_open_loop(50.0, 30.0, [picture], slow_model(0.0))
