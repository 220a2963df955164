"""Scores count what a person would have received."""

from benchmarks.metric.annotations import Prediction, Response
from benchmarks.metric.delivery import delivered


def test_the_same_words_again_at_once_are_withheld_and_later_they_are_not():
    said = [
        (7.0, "A person comes in."),
        (8.0, "a person comes in"),
        (9.0, "A car comes in."),
        (13.0, "A person comes in."),
    ]
    kept = delivered(
        Prediction("q", tuple(Response(time, text) for time, text in said), extra={"scores": []})
    )
    assert [response.time for response in kept.responses] == [7.0, 9.0, 13.0]
    assert kept.extra == {"scores": []}
