"""Which response is given to which answer, worked out by hand and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import ExactJudge
from benchmarks.metric.matching import Match, match_answers_first, match_predictions_first
from benchmarks.metric.tasks import TASKS

UNHURRIED = settings(deadline=None)
JUDGE = ExactJudge()


def question(task: str, *answers: tuple[float, float, str], asked: float = 0.0) -> Annotation:
    return Annotation("q", "v.mp4", 100.0, task, Query(asked, "?"), tuple(Answer(*a) for a in answers))


def say(*responses: tuple[float, str]) -> tuple[Response, ...]:
    return tuple(Response(time, text) for time, text in responses)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Annotation, tuple[Response, ...]]:
    texts = st.sampled_from(["a", "b"])
    times = st.floats(0, 40)
    answers = draw(st.lists(st.tuples(times, st.floats(0, 10), texts), max_size=5))
    annotation = question(
        draw(st.sampled_from(list(TASKS))),
        *((start, start + length, text) for start, length, text in answers),
        asked=draw(st.floats(0, 20)),
    )
    return annotation, say(*draw(st.lists(st.tuples(times, texts), max_size=8)))


def test_answer_keeps_its_best_response() -> None:
    annotation = question("OU", (10, 11, "open"))
    matches = match_predictions_first(annotation, say((8, "open"), (10, "shut"), (11, "open")), JUDGE)
    assert matches == [Match(response=2, time_score=0.75, accuracy=1.0)]
    assert matches[0] and matches[0].product == 0.75


def test_prediction_goes_to_the_first_window_even_if_the_second_fits_better() -> None:
    annotation = question("EU", (10, 14, "one"), (15, 20, "two"))
    assert match_predictions_first(annotation, say((17, "two")), JUDGE) == [Match(0, 0.25, 0.0), None]
    assert match_predictions_first(annotation, say((17.1, "two")), JUDGE) == [None, Match(0, 1.0, 1.0)]


def test_answers_are_taken_by_time_and_reported_in_file_order() -> None:
    annotation = question("EU", (15, 20, "two"), (10, 14, "one"))
    assert match_predictions_first(annotation, say((16, "one")), JUDGE) == [None, Match(0, 0.5, 1.0)]


def test_better_timed_of_equally_wrong_responses_is_kept() -> None:
    annotation = question("OU", (10, 11, "open"))
    assert match_predictions_first(annotation, say((8, "x"), (10, "x"), (10, "y")), JUDGE) == [
        Match(1, 1.0, 0.0)
    ]


def test_window_edges_survive_binary_rounding() -> None:
    annotation = question("RF", (5.1, 6.0, "car"))  # 5.1 - 3 + 3 is a little less than 5.1
    assert match_predictions_first(annotation, say((5.1, "car")), JUDGE)[0] is not None
    annotation = question("RF", (14.7, 15.0, "car"))
    assert match_predictions_first(annotation, say((14.7, "car")), JUDGE)[0] is not None
    assert match_predictions_first(annotation, say((14.701, "car")), JUDGE) == [None]


def test_response_before_the_query_matches_nothing() -> None:
    annotation = question("EU", (10, 20, "one"), asked=15)
    assert match_predictions_first(annotation, say((14.9, "one")), JUDGE) == [None]
    assert match_predictions_first(annotation, say((15, "one")), JUDGE) == [Match(0, 1.0, 1.0)]


def test_reward_follows_algorithm_1() -> None:
    annotation = question("OU", (20, 21, "a"), (24, 25, "b"))
    responses = say((22, "b"), (24, "b"), (26, "a"))
    # The first answer takes (26, a): 0.25 + 1 beats (22, b): 0.75 + 0; the second then takes (24, b): 1 + 1.
    matches = match_answers_first(annotation, responses, JUDGE)
    assert matches == [Match(2, 0.25, 1.0), Match(1, 1.0, 1.0)]
    assert [m.sum for m in matches if m] == [1.25, 2.0]


def test_reward_gives_nothing_for_a_score_of_zero() -> None:
    annotation = question("OU", (20, 21, "a"))
    assert match_answers_first(annotation, say((28, "b")), JUDGE) == [None]
    assert match_answers_first(annotation, say((28, "a")), JUDGE) == [Match(0, 0.0, 1.0)]
    assert match_answers_first(annotation, say((28.1, "a")), JUDGE) == [None]


def test_reward_window_of_agency_ends_at_the_best_time() -> None:
    annotation = question("GP", (20, 21, "a"), asked=1)
    assert match_answers_first(annotation, say((20.1, "a")), JUDGE) == [None]
    assert match_answers_first(annotation, say((16, "a")), JUDGE) == [Match(0, 0.5, 1.0)]


@pytest.mark.parametrize("match", [match_predictions_first, match_answers_first])
@UNHURRIED
@given(case=cases())
def test_no_response_is_given_twice(case: tuple[Annotation, tuple[Response, ...]], match: object) -> None:
    annotation, responses = case
    matches = match(annotation, responses, JUDGE)  # type: ignore[operator]
    taken = [m.response for m in matches if m]
    assert len(matches) == len(annotation.answers)
    assert len(taken) == len(set(taken))
    assert all(0 <= m.product <= 1 and 0 <= m.sum <= 2 for m in matches if m)


@UNHURRIED
@given(case=cases(), data=st.data())
def test_order_of_responses_does_not_matter(
    case: tuple[Annotation, tuple[Response, ...]], data: st.DataObject
) -> None:
    annotation, responses = case
    shuffled = data.draw(st.permutations(responses))
    for match in (match_predictions_first, match_answers_first):
        scores = [
            [(m.time_score, m.accuracy) if m else None for m in match(annotation, said, JUDGE)]
            for said in (responses, shuffled)
        ]
        assert scores[0] == scores[1]
