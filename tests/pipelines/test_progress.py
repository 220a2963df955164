from __future__ import annotations

from pipelines.progress import Progress

S = 1_000_000_000


def test_where_the_last_picture_ends() -> None:
    progress = Progress(live=False)
    for stamp in (0, S // 10, S // 5):
        assert progress.note(stamp, None, False) == stamp
    assert progress.end_ns == 3 * S // 10
    assert progress.decoded == 3


def test_a_single_picture_ends_by_its_own_duration() -> None:
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


def test_pictures_without_time_stamps_follow_the_ones_before() -> None:
    progress = Progress(live=False)
    assert [progress.note(None, None, True) for _ in range(2)] == [0, S // 25]
    assert progress.note(S, None, False) == S
    assert progress.corrupt == 2
