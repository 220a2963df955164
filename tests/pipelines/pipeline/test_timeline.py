from __future__ import annotations

import pytest

from edge_runtime.video.sampling import TimestepSampler
from pipelines.clock import Timeline

S = 1_000_000_000


def test_a_file_keeps_its_time_stamps() -> None:
    line = Timeline(live=False)
    assert [line.place(ns, 77.0) for ns in (2 * S, S, 5 * S)] == [2.0, 1.0, 5.0]


def test_a_live_source_starts_at_zero() -> None:
    line = Timeline(live=True)
    assert line.place(40 * S, 100.0) == 0.0
    assert line.place(41 * S, 101.2) == pytest.approx(1.0)


def test_after_a_reconnect_time_goes_on_by_our_clock() -> None:
    line = Timeline(live=True)
    line.place(40 * S, 100.0)
    line.place(44 * S, 104.0)
    line.new_connection()
    assert line.place(3 * S, 130.0) == pytest.approx(30.0)
    assert line.place(4 * S, 131.0) == pytest.approx(31.0)


def test_time_never_runs_backwards_over_a_reconnect() -> None:
    line = Timeline(live=True)
    line.place(0, 100.0)
    ahead = line.place(4 * S, 101.0)  # a server that sends its buffer at once
    line.new_connection()
    assert line.place(0, 101.5) >= ahead


@pytest.mark.parametrize("jump_s", [-3600, -2, 3600])
def test_a_jump_of_the_cameras_clock_is_taken_out(jump_s: int) -> None:
    line = Timeline(live=True)
    line.place(5000 * S, 100.0)
    assert line.place(5010 * S, 110.0) == pytest.approx(10.0)
    assert line.place((5011 + jump_s) * S, 111.0) == pytest.approx(11.0)
    assert line.place((5012 + jump_s) * S, 112.0) == pytest.approx(12.0)


def test_timesteps_go_on_over_ten_reconnects() -> None:
    line, sampler = Timeline(live=True), TimestepSampler(1.0)
    taken = []
    for connection in range(10):
        line.new_connection()
        for frame in range(100):
            index = sampler.take(line.place(frame * S // 10, 100.0 + connection * 12 + frame / 10))
            taken += [] if index is None else [index]
    assert taken == sorted(set(taken))
    assert taken[-1] == 9 * 12 + 9  # its last frame, at 117.9 s, closes 117..118 by the slack
