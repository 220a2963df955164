"""Trivial baselines: when they speak and what they say."""

from __future__ import annotations

import pytest

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.baselines import BASELINES, Prior, predict
from benchmarks.metric.judges import ExactJudge
from benchmarks.metric.score import score


def question(
    task: str, *texts: str, asked: float = 4.0, duration: float = 17.0, name: str = "q"
) -> Annotation:
    answers = tuple(Answer(10, 12, text) for text in texts)
    return Annotation(name, "v.mp4", duration, task, Query(asked, "?"), answers)


PRIOR = Prior.count([question("OU", "open", "shut", "open"), question("AA", "fire")], "train.jsonl")


@pytest.mark.parametrize(
    ("name", "asked", "times"),
    [
        ("always silent", 4.0, []),
        ("every 5 s", 4.0, [4.0, 9.0, 14.0]),
        ("every 5 s", 2.0, [2.0, 7.0, 12.0, 17.0]),
        ("once at the end", 4.0, [17.0]),
        ("6 s after the query", 4.0, [10.0]),
        ("6 s after the query", 14.0, [17.0]),
        ("6 s after the query", 20.0, [20.0]),
    ],
)
def test_times(name: str, asked: float, times: list[float]) -> None:
    (prediction,) = predict(name, [question("OU", "x", asked=asked)], PRIOR)
    assert prediction.responses == tuple(Response(t, "open") for t in times)


def test_most_frequent_answer() -> None:
    assert PRIOR.answer("OU") == "open"
    assert PRIOR.answer("AA") == "fire"
    assert PRIOR.answer("GP") == "open"  # of the whole file
    assert Prior.count([question("OU", "b", "a")], "x").answer("OU") == "a"
    assert Prior.count([question("OU")], "x").answer("OU") == ""


def test_baselines_are_scored_like_a_model() -> None:
    questions = [question("OU", "open", name=str(i)) for i in range(3)]
    f1 = {
        name: score(questions, predict(name, questions, PRIOR), ExactJudge(), bootstrap=0).tasks["OU"].f1
        for name in BASELINES
    }
    assert f1["always silent"] == f1["once at the end"] == 0
    assert f1["6 s after the query"] == 1  # the change is at 10 s, the query at 4 s
    assert f1["every 5 s"] == pytest.approx(2 * 0.75 / 4)
