from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge_runtime.errors import SourceError
from pipelines.pipeline.frame_queue import Frame, Mailbox, StateChange


def frame(index: int) -> Frame:
    return Frame(float(index), np.zeros((1, 1, 3), np.uint8), 0.0, index)


def test_live_keeps_the_newest_and_counts_the_rest() -> None:
    box = Mailbox(newest_only=True)
    for index in range(5):
        box.put_frame(frame(index))
    assert box.get().index == 4
    assert (box.dropped, box.longest_drop_run) == (4, 4)
    box.put_frame(frame(5))
    assert box.get().index == 5
    for index in (6, 7):
        box.put_frame(frame(index))
    assert (box.dropped, box.longest_drop_run) == (5, 4)


def test_states_keep_their_place_and_are_not_dropped() -> None:
    box = Mailbox(newest_only=True)
    box.put_state(StateChange("live"))
    box.put_frame(frame(0))
    box.put_state(StateChange("stalled"))
    box.put_frame(frame(1))
    assert [box.get() for _ in range(2)] == [StateChange("live"), StateChange("stalled")]
    assert box.get().index == 1


def test_a_file_waits_for_its_consumer() -> None:
    box = Mailbox(newest_only=False, capacity=2)
    done = threading.Event()

    def produce() -> None:
        for index in range(10):
            assert box.put_frame(frame(index))
        box.end()
        done.set()

    threading.Thread(target=produce, daemon=True).start()
    time.sleep(0.05)
    assert box.full and not done.is_set()
    assert [box.get().index for _ in range(10)] == list(range(10))
    with pytest.raises(StopIteration):
        box.get()
    assert box.dropped == 0


def test_an_error_comes_after_what_was_waiting_and_once() -> None:
    box = Mailbox(newest_only=False)
    box.put_frame(frame(0))
    box.end(SourceError("truncated"))
    box.end()
    assert box.get().index == 0
    with pytest.raises(SourceError, match="truncated"):
        box.get()
    with pytest.raises(StopIteration):
        box.get()


def test_timeout() -> None:
    assert Mailbox(newest_only=True).get(timeout_s=0.01) is None
    assert Mailbox(newest_only=True).get(timeout_s=0) is None


def test_closing_releases_both_sides() -> None:
    box = Mailbox(newest_only=False, capacity=1)
    box.put_frame(frame(0))
    threading.Timer(0.05, box.close).start()
    assert box.put_frame(frame(1)) is False
    with pytest.raises(StopIteration):
        box.get()


def test_a_flapping_camera_nobody_reads_does_not_fill_the_memory() -> None:
    box = Mailbox(newest_only=True)
    for index in range(10_000):
        box.put_state(StateChange("connecting", str(index)))
    got = []
    while (item := box.get(timeout_s=0)) is not None:
        got.append(item.cause)
    assert len(got) <= 64
    assert got[-1] == "9999"
