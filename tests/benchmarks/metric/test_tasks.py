"""Best times, windows and time scores, worked out by hand from the paper's table."""

from __future__ import annotations

import pytest

from benchmarks.metric.tasks import DIMENSIONS, TASKS

# task, response time, S_time of it for the event [20, 30] asked at 5, and whether it lies in the window
CASES = [
    ("EU", 19.9, 0.975, False),
    ("EU", 20.0, 1.0, True),
    ("EU", 25.0, 1.0, True),
    ("EU", 30.0, 1.0, True),
    ("EU", 31.0, 0.75, True),
    ("EU", 33.0, 0.25, True),
    ("EU", 33.1, 0.225, False),
    ("TP", 20.0, 1.0, True),
    ("TP", 32.0, 0.5, True),
    ("TP", 34.0, 0.0, False),
    ("OU", 16.9, 0.225, False),
    ("OU", 17.0, 0.25, True),
    ("OU", 20.0, 1.0, True),
    ("OU", 23.0, 0.25, True),
    ("OU", 23.1, 0.225, False),
    ("AA", 19.9, 1 - 0.1 / 6, False),
    ("AA", 20.0, 1.0, True),
    ("AA", 23.0, 0.5, True),
    ("AA", 25.0, 1 / 6, True),
    ("AA", 25.1, 0.15, False),
    ("TG", 26.9, 0.225, False),
    ("TG", 27.0, 0.25, True),
    ("TG", 30.0, 1.0, True),
    ("TG", 32.0, 0.5, True),
    ("TG", 33.0, 0.25, True),
    ("TG", 33.1, 0.225, False),
    ("GP", 16.9, 0.225, False),
    ("GP", 17.0, 0.25, True),
    ("GP", 19.0, 0.75, True),
    ("GP", 20.0, 1.0, True),
    ("GP", 20.1, 0.975, False),
    ("RF", 15.9, 0.45, False),
    ("RF", 16.0, 0.5, True),
    ("RF", 17.0, 1.0, True),
    ("RF", 18.0, 0.75, True),
    ("RF", 20.0, 0.25, True),
    ("RF", 20.1, 0.225, False),
    ("EC", 29.4, 0.85, False),
    ("EC", 29.5, 0.875, True),
    ("AC", 30.0, 1.0, True),
    ("AC", 30.6, 0.85, False),
]


@pytest.mark.parametrize(("code", "time", "score", "inside"), CASES)
def test_time_score_and_window(code: str, time: float, score: float, inside: bool) -> None:
    task = TASKS[code]
    assert task.time_score(time, 20, 30, 5) == pytest.approx(score)
    first, last = task.window(20, 30, 5)
    assert (first <= time <= last) is inside


@pytest.mark.parametrize(("time", "score"), [(4.9, 0.975), (5.0, 1.0), (6.0, 0.75), (8.0, 0.25), (9.0, 0.0)])
@pytest.mark.parametrize("start", [5.0, 3.0])
def test_first_step_is_due_after_the_query(start: float, time: float, score: float) -> None:
    task = TASKS["GP"]
    assert task.window(start, 12, 5) == (5, 8)
    assert task.time_score(time, start, 12, 5) == pytest.approx(score)
    assert task.reward_window(start, 12, 5) == (5, 13)


def test_no_window_begins_before_the_query() -> None:
    for task in TASKS.values():
        assert task.window(20, 30, 19.5)[0] >= 19.5
        assert task.reward_window(20, 30, 19.5)[0] >= 19.5


@pytest.mark.parametrize(
    ("code", "window"),
    [
        ("EU", (12, 38)),
        ("TP", (12, 38)),
        ("OU", (12, 28)),
        ("AA", (12, 28)),
        ("TG", (22, 38)),
        ("GP", (12, 20)),
        ("RF", (9, 17)),
    ],
)
def test_reward_window(code: str, window: tuple[float, float]) -> None:
    assert TASKS[code].reward_window(20, 30, 0) == window
    assert TASKS[code].time_score(window[0], 20, 30, 0, tau=8) == 0


def test_reward_tau_is_the_same_early_and_late() -> None:
    assert TASKS["RF"].time_score(13, 20, 30, 0, tau=8) == TASKS["RF"].time_score(21, 20, 30, 0, tau=8) == 0.5


def test_table_holds_the_seven_tasks_in_three_dimensions() -> None:
    members = {d: [c for c, t in TASKS.items() if t.dimension == d] for d in DIMENSIONS}
    assert members == {"PU": ["EU", "OU", "AA"], "TR": ["TP", "TG"], "PA": ["GP", "RF"]}
    assert [c for c, t in TASKS.items() if t.dimension is None] == ["EC", "AC"]
