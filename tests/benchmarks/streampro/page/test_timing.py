"""Histogram of offsets and the reliability diagram, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import ExactJudge
from benchmarks.streampro.page.timing import LIMIT_S, earliness, reliability, right_moments
from benchmarks.streampro.page.verdicts import QuestionVerdict, ResponseVerdict, judge_question

ANSWER = Answer(10, 11, "The door opens.")


def said(*offsets: float | None, inside: bool = True) -> QuestionVerdict:
    kind, target = ("right", 0) if inside else ("outside", None)
    return QuestionVerdict((), tuple(ResponseVerdict(kind, target, offset) for offset in offsets))


def test_bins_are_centred_on_whole_seconds() -> None:
    found = earliness([said(-0.5, 0.0, 0.49, 0.5), said(-2.0, None, 40.0, -400.0, inside=False)])
    assert found.offsets == tuple(range(-LIMIT_S, LIMIT_S + 1))
    inside = {offset: n for offset, n in zip(found.offsets, found.inside, strict=True) if n}
    outside = {offset: n for offset, n in zip(found.offsets, found.outside, strict=True) if n}
    assert inside == {0: 3, 1: 1}
    assert outside == {-LIMIT_S: 1, -2: 1, LIMIT_S: 1}
    assert found.median_s == pytest.approx(0.245)


def test_no_response_has_no_median() -> None:
    assert earliness([]).median_s is None
    assert earliness([said(30.0, inside=False)]).median_s is None


def moments(*responses: Response) -> list[bool]:
    question = Annotation("q", "v.mp4", 60.0, "OU", Query(0.0, "?"), (ANSWER,))
    verdict = judge_question(question, responses, ExactJudge())
    return right_moments(question, responses, verdict, [6.0, 7.0, 9.0, 10.0, 13.0, 14.0])


def test_right_moments_end_with_the_answer() -> None:
    window = [False, True, True, True, True, False]
    assert moments() == window
    assert moments(Response(9, "The door opens.")) == [False, True, True, False, False, False]
    assert moments(Response(9, "The dog barks.")) == window  # wrong words answer nothing
    # The later one is nearer to the best time and is kept: up to it, speaking could still gain.
    assert moments(Response(7, "The door opens."), Response(10, "The door opens.")) == [
        *(False, True, True, True),
        *(False, False),
    ]


def test_reliability_by_hand() -> None:
    found = reliability([(0.02, False), (0.04, True), (0.95, True), (1.0, True), (0.9, False)], questions=2)
    assert found is not None
    assert [(b.low, b.high, b.timesteps) for b in found.bins] == [(0.0, 0.1, 2), (0.9, 1.0, 3)]
    assert [b.score for b in found.bins] == pytest.approx([0.03, 0.95])
    assert [b.right for b in found.bins] == pytest.approx([0.5, 2 / 3])
    assert found.error == pytest.approx((2 * 0.47 + 3 * (0.95 - 2 / 3)) / 5)
    assert (found.timesteps, found.questions) == (5, 2)
    assert reliability([], questions=0) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_reliability_loses_no_timestep(steps: list[tuple[float, bool]]) -> None:
    found = reliability(steps, 1)
    assert found is not None
    assert sum(b.timesteps for b in found.bins) == len(steps)
    assert sum(b.timesteps * b.right for b in found.bins) == pytest.approx(sum(r for _, r in steps))
    assert all(b.low - 1e-9 <= b.score <= b.high + 1e-9 for b in found.bins)
    assert 0 <= found.error <= 1
