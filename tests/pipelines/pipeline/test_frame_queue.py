from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge_runtime.errors import SourceError
from pipelines.pipeline.frame_queue import Frame, FrameQueue, StateChange


def frame(index: int) -> Frame:
    return Frame(float(index), np.zeros((1, 1, 3), np.uint8), 0.0, index)


def test_live_keeps_the_newest_and_counts_the_rest() -> None:
    queue = FrameQueue(newest_only=True)
    for index in range(5):
        queue.put_frame(frame(index))
    assert queue.get().index == 4
    assert (queue.dropped, queue.longest_drop_run) == (4, 4)
    queue.put_frame(frame(5))
    assert queue.get().index == 5
    for index in (6, 7):
        queue.put_frame(frame(index))
    assert (queue.dropped, queue.longest_drop_run) == (5, 4)


def test_catching_up_keeps_frames_up_to_a_bound_and_counts_the_rest() -> None:
    queue = FrameQueue(newest_only=True, catch_up=3)
    for index in range(4):
        queue.put_frame(frame(index))
    assert queue.dropped == 0
    queue.put_frame(frame(4))
    queue.put_frame(frame(5))
    assert (queue.dropped, queue.longest_drop_run) == (2, 2)
    assert [queue.get().index for _ in range(4)] == [2, 3, 4, 5]
    assert queue.get(timeout_s=0) is None


def test_states_keep_their_place_and_are_not_dropped() -> None:
    queue = FrameQueue(newest_only=True)
    queue.put_state(StateChange("live"))
    queue.put_frame(frame(0))
    queue.put_state(StateChange("stalled"))
    queue.put_frame(frame(1))
    assert [queue.get() for _ in range(2)] == [StateChange("live"), StateChange("stalled")]
    assert queue.get().index == 1


def test_a_file_waits_for_its_consumer() -> None:
    queue = FrameQueue(newest_only=False, capacity=2)
    done = threading.Event()

    def produce() -> None:
        for index in range(10):
            assert queue.put_frame(frame(index))
        queue.end()
        done.set()

    threading.Thread(target=produce, daemon=True).start()
    time.sleep(0.05)
    assert queue.full and not done.is_set()
    assert [queue.get().index for _ in range(10)] == list(range(10))
    with pytest.raises(StopIteration):
        queue.get()
    assert queue.dropped == 0


def test_an_error_comes_after_what_was_waiting_and_once() -> None:
    queue = FrameQueue(newest_only=False)
    queue.put_frame(frame(0))
    queue.end(SourceError("truncated"))
    queue.end()
    assert queue.get().index == 0
    with pytest.raises(SourceError, match="truncated"):
        queue.get()
    with pytest.raises(StopIteration):
        queue.get()


def test_timeout() -> None:
    assert FrameQueue(newest_only=True).get(timeout_s=0.01) is None
    assert FrameQueue(newest_only=True).get(timeout_s=0) is None


def test_closing_releases_both_sides() -> None:
    queue = FrameQueue(newest_only=False, capacity=1)
    queue.put_frame(frame(0))
    threading.Timer(0.05, queue.close).start()
    assert queue.put_frame(frame(1)) is False
    with pytest.raises(StopIteration):
        queue.get()


def test_a_flapping_camera_nobody_reads_does_not_fill_the_memory() -> None:
    queue = FrameQueue(newest_only=True)
    for index in range(10_000):
        queue.put_state(StateChange("connecting", str(index)))
    got = []
    while (item := queue.get(timeout_s=0)) is not None:
        got.append(item.cause)
    assert len(got) <= 64
    assert got[-1] == "9999"
