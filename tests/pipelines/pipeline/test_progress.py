from __future__ import annotations

import pytest

from pipelines.pipeline.progress import Progress

S = 1_000_000_000


def test_where_the_last_frame_ends() -> None:
    progress = Progress(live=False)
    for stamp in (0, S // 10, S // 5):
        assert progress.note(stamp, None, False) == stamp
    assert progress.end_ns == 3 * S // 10
    assert progress.decoded == 3


def test_a_single_frame_ends_by_its_own_duration() -> None:
    progress = Progress(live=False)
    progress.note(0, S, False)
    assert progress.end_ns == S


def test_gaps_are_measured_against_the_usual_step() -> None:
    quick, slow = Progress(live=False), Progress(live=False)
    for second in (0.0, 0.1, 0.2, 3.0, 3.1):
        quick.note(round(second * S), None, False)
    assert quick.gaps == [(0.2, 3.0)]
    for second in (0, 2, 4, 8, 10):  # a time-lapse
        slow.note(second * S, None, False)
    assert slow.gaps == []


def test_live_sources_have_no_gaps() -> None:
    progress = Progress(live=True)
    progress.note(0, None, False)
    progress.note(60 * S, None, False)
    assert progress.gaps == []


def test_frames_without_time_stamps_follow_the_ones_before() -> None:
    progress = Progress(live=False)
    assert [progress.note(None, None, True) for _ in range(2)] == [0, S // 25]
    assert progress.note(1000 * S, None, False) == 2 * S // 25
    assert progress.corrupt == 2


@pytest.mark.parametrize("start", [-1, 1, 1000, 95_000])
def test_a_video_starts_at_zero(start: int) -> None:
    progress = Progress(live=False)
    assert [progress.note(start * S + n * S // 10, None, False) for n in range(3)] == [0, S // 10, S // 5]
    assert (progress.start_ns, progress.end_ns) == (start * S, 3 * S // 10)


def test_live_sources_keep_their_stamps() -> None:
    assert Progress(live=True).note(7 * S, None, False) == 7 * S


def test_files_joined_end_to_end_go_on() -> None:
    progress = Progress(live=False)
    stamps = [5 * S, 6 * S, 7 * S, 2 * S, 3 * S]
    assert [progress.note(stamp, None, False) for stamp in stamps] == [0, S, 2 * S, 3 * S, 4 * S]
    assert progress.gaps == []


def test_stamps_at_the_end_of_a_frame_are_kept() -> None:
    progress = Progress(live=False, stamped_at_end=True)
    assert [progress.note(n * S, S, False) for n in (1, 2)] == [S, 2 * S]
    assert (progress.last_ns, progress.end_ns) == (S, 2 * S)
