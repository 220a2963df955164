"""Which responses go out."""

from __future__ import annotations

import pytest

from edge_runtime.policy import PolicySettings, ResponsePolicy, normalise


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


@pytest.mark.parametrize("bad", [{"threshold": 1.5}, {"min_gap_s": -1}, {"repeat_s": float("nan")}])
def test_impossible_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad)).removesuffix("_s")):
        PolicySettings(**bad)


def test_normalise_keeps_numbers_apart():
    assert normalise("12s-15s.") != normalise("12s-16s.")
