"""What is drafted, and when drafting stops."""

import numpy as np
import pytest

from edge_runtime.engine.drafts import _ALLOWANCE, _CHUNK_COST, _FIRST_BALANCE, _TOKEN_COST, Drafts


def drafts(prompt=(), queries=(), responses=()):
    found = Drafts(prompt)
    for response in responses:
        found.remember(response)
    found.begin(queries)
    return found


def test_a_response_may_begin_as_the_last_one_did():
    assert drafts(responses=[[5, 6, 7], [8, 9]]).propose([], 8) == [8, 9]


@pytest.mark.parametrize("place", ["prompt", "queries", "responses"])
def test_words_are_found_wherever_they_were_read_or_said(place):
    text = [1, 2, 3, 4, 5]
    known = {place: text if place == "prompt" else [text]}
    assert drafts(**known).propose([9, 2, 3], 8) == [4, 5]


def test_the_longest_match_wins_and_then_the_newest():
    found = drafts(responses=[[1, 2, 3, 4, 10], [3, 4, 20], [3, 4, 30]])
    assert found.propose([1, 2, 3, 4], 8) == [10]
    assert found.propose([9, 3, 4], 8) == [30]


def test_a_draft_does_not_run_on_into_another_text():
    assert drafts(prompt=[1, 2, 3], queries=[[4, 5]]).propose([2, 3], 8) == []
    assert drafts(responses=[[1, 2, 3], [4, 5]]).propose([1, 2], 8) == [3]


def test_nothing_in_common_is_no_draft():
    assert drafts(responses=[[1, 2, 3]]).propose([9, 3], 8) == []
    assert drafts().propose([], 8) == []


def test_no_more_than_asked_for():
    found = drafts(responses=[[1, 2, 3, 4, 5]])
    assert found.propose([], 2) == [1, 2]
    assert found.propose([], 0) == [] and found.propose([], -3) == []


def test_old_responses_are_forgotten_and_a_new_stream_knows_none():
    found = drafts(responses=[[1, 2, 3], [7] * 1_023])
    assert found.propose([1, 2], 8) == []
    found.remember([4, 5, 6])
    found.reset()
    found.begin([])
    assert found.propose([], 8) == []


def test_drafts_grow_while_they_are_right():
    found = drafts(responses=[list(range(100, 200))])
    sizes, at = [], 0
    for _ in range(5):
        draft = found.propose(list(range(100, 100 + at)), 15)
        found.judge(len(draft), len(draft))
        sizes.append(len(draft))
        at += len(draft) + 1
    assert sizes[0] == 4 and sizes[-1] == 15


def test_what_is_lost_stays_below_two_percent_when_every_draft_is_wrong():
    found = drafts(responses=[list(range(100, 200))])
    lost = 0.0
    for _ in range(2_000):
        draft = found.propose([100, 101], 15)
        if draft:
            lost += _CHUNK_COST + _TOKEN_COST * len(draft)
            found.judge(len(draft), 0)
    assert 0 < lost <= _FIRST_BALANCE + 2_000 * _ALLOWANCE < 0.02 * 2_000


def test_drafts_come_back_when_a_stream_begins_to_repeat_itself():
    found = drafts(responses=[list(range(100, 200))])
    for _ in range(500):
        if draft := found.propose([100, 101], 15):
            found.judge(len(draft), 0)
    longest, tokens = 0, 0
    while longest < 10:
        draft = found.propose([100, 101], 15)
        longest = max(longest, len(draft))
        tokens += 1 + len(draft)
        if draft:
            found.judge(len(draft), len(draft))
    assert tokens < 100


def test_the_same_stream_is_drafted_the_same_way():
    def run():
        rng, found, out = np.random.default_rng(0), drafts(), []
        for _ in range(30):
            response = rng.integers(1, 4, 20).tolist()
            found.begin([[1, 2, 3]])
            for at in range(20):
                draft = found.propose(response[:at], 8)
                right = next(
                    (i for i, (a, b) in enumerate(zip(draft, response[at:], strict=False)) if a != b),
                    len(draft),
                )
                out.append(draft)
                if draft:
                    found.judge(len(draft), right)
            found.settle()
            found.remember(response)
        return out

    assert run() == run()


def test_a_response_that_failed_teaches_nothing():
    found = drafts(responses=[list(range(100, 200))])
    first = found.propose([], 15)
    found.judge(len(first), 0)
    assert len(found.propose([], 15)) < len(first)
    found.begin([])
    assert found.propose([], 15) == first
    found.judge(len(first), 0)
    found.settle()
    found.begin([])
    assert len(found.propose([], 15)) < len(first)
