"""Which responses go out."""

from __future__ import annotations

from datetime import datetime, time

import pytest

from edge_runtime.events.policy import PolicySettings, ResponsePolicy, normalise, parse_quiet_hours


def say(policy: ResponsePolicy, time_s: float, text: str) -> str | None:
    reason = policy.review(time_s, text)
    if reason is None:
        policy.delivered(time_s, text)
    return reason


def test_defaults_let_distinct_answers_through_at_once():
    policy = ResponsePolicy(PolicySettings())
    assert [say(policy, t, f"step {t}") for t in (1.0, 2.0, 3.0)] == [None, None, None]


def test_the_same_words_wait_for_the_repeat_window():
    policy = ResponsePolicy(PolicySettings(repeat_s=5))
    assert say(policy, 10.0, "The kettle boils.") is None
    assert say(policy, 11.0, "the  KETTLE boils") == "repeat"
    assert say(policy, 14.9, "The kettle boils!") == "repeat"
    assert say(policy, 15.0, "The kettle boils.") is None


def test_a_repeat_between_other_answers_is_held_back_too():
    policy = ResponsePolicy(PolicySettings(repeat_s=5))
    assert [say(policy, t, text) for t, text in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (7, "a")]] == [
        None,
        None,
        "repeat",
        "repeat",
        None,
    ]


def test_no_repeat_window_lets_repeats_through():
    policy = ResponsePolicy(PolicySettings(repeat_s=0))
    assert [say(policy, t, "a") for t in (1, 2, 3)] == [None, None, None]


def test_minimum_gap_counts_from_the_last_response_that_went_out():
    policy = ResponsePolicy(PolicySettings(min_gap_s=10))
    assert say(policy, 5.0, "one") is None
    assert say(policy, 14.0, "two") == "min_gap"
    assert say(policy, 15.0, "three") is None


def test_a_response_that_did_not_go_out_starts_no_gap_and_is_no_repeat():
    policy = ResponsePolicy(PolicySettings(min_gap_s=10))
    assert policy.review(5.0, "fire") is None  # and then every sink fails
    assert policy.review(6.0, "fire") is None


def test_empty_text_never_goes_out():
    assert ResponsePolicy(PolicySettings()).review(1.0, " .\n") == "empty"


def test_memory_of_what_was_said_stays_small():
    policy = ResponsePolicy(PolicySettings(repeat_s=5))
    for second in range(1000):
        say(policy, float(second), f"text {second}")
    assert len(policy._said) <= 6


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 1.5},
        {"min_gap_s": -1},
        {"repeat_s": float("nan")},
        {"debounce": (3, 2)},
        {"debounce": (0, 2)},
        {"budget_per_hour": 0},
    ],
)
def test_impossible_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad)).removesuffix("_s")):
        PolicySettings(**bad)


def test_normalise_keeps_numbers_apart():
    assert normalise("12s-15s.") != normalise("12s-16s.")


def test_debounce_waits_for_k_of_the_last_n_timesteps():
    policy = ResponsePolicy(PolicySettings(repeat_s=0, debounce=(2, 3)))
    outcomes = []
    for second, spoke in enumerate([1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1]):
        policy.observe(bool(spoke))
        outcomes.append(say(policy, float(second), "fire") if spoke else "-")
    #                    1           0    0    1           0    1     1     0    0    0    1
    assert outcomes == ["debounce", "-", "-", "debounce", "-", None, None, "-", "-", "-", "debounce"]


def test_what_debounce_held_back_starts_no_cooldown():
    policy = ResponsePolicy(PolicySettings(min_gap_s=100, debounce=(2, 2)))
    policy.observe(True)
    assert say(policy, 1.0, "fire") == "debounce"
    policy.observe(True)
    assert say(policy, 2.0, "fire") is None


def test_the_budget_is_of_any_hour_and_counts_deliveries_alone():
    policy = ResponsePolicy(PolicySettings(budget_per_hour=2, repeat_s=0))
    assert policy.review(0.0, "lost on its way") is None
    assert [say(policy, t, f"a{t}") for t in (0, 1800, 1801, 3599)] == [None, None, "budget", "budget"]
    assert say(policy, 3600.0, "b") is None  # the first is an hour ago
    assert say(policy, 3601.0, "c") == "budget"
    assert say(policy, 5400.0, "d") is None


@pytest.mark.parametrize(
    ("hours", "quiet", "loud"),
    [
        ("22:00-06:30", ["22:00", "23:59", "00:00", "06:29"], ["06:30", "12:00", "21:59"]),
        ("12:00-13:00", ["12:00", "12:59"], ["11:59", "13:00", "00:00"]),
    ],
)
def test_quiet_hours_are_of_the_local_clock_and_may_pass_midnight(hours, quiet, loud):
    settings = PolicySettings(quiet_hours=parse_quiet_hours(hours), repeat_s=0)
    for moments, expected in ((quiet, "quiet_hours"), (loud, None)):
        for moment in moments:
            now = datetime.combine(datetime(2026, 3, 1), time.fromisoformat(moment))
            assert say(ResponsePolicy(settings, lambda now=now: now), 1.0, "fire") == expected
    assert say(ResponsePolicy(settings), 1.0, "fire") is None  # a recording


@pytest.mark.parametrize("text", ["", "22-6", "25:00-06:00", "10:00-10:00", "22:00"])
def test_hours_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match="such as 22:00-06:30"):
        parse_quiet_hours(text)
