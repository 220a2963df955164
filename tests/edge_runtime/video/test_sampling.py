"""Which frame closes which timestep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.video.sampling import SLACK, TimestepSampler


def closed(pts, fps=1.0):
    sampler = TimestepSampler(fps)
    return [index for t in pts if (index := sampler.take(t)) is not None]


@pytest.mark.parametrize("rate", [1.0, 5.0, 24.0, 25.0, 29.97, 30.0, 60.0])
def test_a_steady_video_closes_every_interval_once(rate):
    pts = [n / rate for n in range(round(10 * rate) + 1)]
    assert closed(pts) == list(range(10))


def test_the_chosen_frame_is_the_first_at_the_end_of_the_interval():
    sampler = TimestepSampler(1.0)
    chosen = {sampler.take(n / 25): n / 25 for n in range(100)}
    assert chosen[0] == pytest.approx(0.88)  # 1 s less the slack of 0.15 s, rounded up to a frame
    assert chosen[1] == pytest.approx(1.88)


def test_the_slack_lets_the_last_frame_close_its_interval():
    assert closed([1 - SLACK]) == [0]
    assert closed([1 - SLACK - 0.001]) == []


def test_a_gap_skips_timesteps_for_good():
    assert closed([1.0, 7.0, 7.5, 3.0, 8.0]) == [0, 6, 7]


def test_nothing_before_the_first_interval_ends():
    assert closed([-5.0, 0.0, 0.4]) == []


def test_long_streams_do_not_drift():
    assert closed([100_000.0, 100_001.0]) == [99_999, 100_000]


def whole(pts, end, fps=1.0):
    """All timesteps of a recorded video."""
    sampler, indices = TimestepSampler(fps), []
    for t in pts:
        indices += sampler.passed(t)
        indices += [index] if (index := sampler.take(t)) is not None else []
    return indices + list(sampler.rest(pts[-1], end))


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0, 5.0, 24.0, 30.0])
@pytest.mark.parametrize("seconds", [10, 13])
@pytest.mark.parametrize("fps", [0.5, 1.0, 4.0])
def test_a_video_gives_every_interval_once(rate, seconds, fps):
    pts = [n / rate for n in range(round(seconds * rate))]
    assert whole(pts, len(pts) / rate, fps) == list(range(math.ceil(len(pts) / rate * fps)))


@pytest.mark.parametrize(
    ("last", "end", "count"),
    [
        (0.0, 0.0, 1),  # one frame of unknown length
        (0.56, 0.6, 1),
        (1.96, 2.0, 2),
        (2.0, 2.04, 3),  # a frame starts in the third second
        (1.99, 2.03, 2),  # it only reaches into it
        (1.96, 2.0005, 2),  # rounding
        (1.99, 7.5, 8),  # a frame that stays
    ],
)
def test_the_last_interval_counts_when_the_video_ends_inside_it(last, end, count):
    assert whole([0.0, *(n / 25 for n in range(1, round(last * 25))), last], end) == list(range(count))


def test_a_frame_on_screen_fills_the_intervals_before_the_next():
    sampler = TimestepSampler(1.0)
    assert sampler.take(0.0) is None
    assert list(sampler.passed(5.0)) == [0, 1, 2, 3]
    assert sampler.take(5.0) == 4
    assert list(sampler.passed(5.5)) == []


def test_reset_starts_at_zero():
    sampler = TimestepSampler(1.0)
    assert sampler.take(5.0) == 4
    sampler.reset()
    assert sampler.take(1.0) == 0


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e-300, float("inf"), float("nan")])
def test_fps_must_be_a_rate(fps):
    with pytest.raises(ValueError, match="fps must be at least"):
        TimestepSampler(fps)


@given(
    st.lists(st.floats(-10, 1e6, allow_nan=False), max_size=50), st.sampled_from([0.2, 0.5, 1.0, 2.0, 4.0])
)
def test_indices_only_grow_and_belong_to_their_frames(pts, fps):
    sampler, last = TimestepSampler(fps), -1
    for t in pts:
        index = sampler.take(t)
        if index is None:
            continue
        assert index > last
        last = index
        assert (index + 1) / fps - SLACK / fps - 1e-6 <= t < (index + 2) / fps - SLACK / fps + 1e-6
