"""StreamPro-F1: hand-computed questions, and properties that must hold for any input."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, FormatError, Prediction, Query, Response
from benchmarks.metric.judges import ExactJudge
from benchmarks.metric.score import METRICS, Report, score, score_question
from benchmarks.metric.tasks import TASKS

UNHURRIED = settings(deadline=None, max_examples=50)
JUDGE = ExactJudge()
BENCHMARK_TASKS = [code for code, task in TASKS.items() if task.dimension]


def question(
    task: str, *answers: tuple[float, float, str], asked: float = 0.0, name: str = "q"
) -> Annotation:
    return Annotation(name, "v.mp4", 200.0, task, Query(asked, "?"), tuple(Answer(*a) for a in answers))


def say(*responses: tuple[float, str], name: str = "q") -> Prediction:
    return Prediction(name, tuple(Response(moment, text) for moment, text in responses))


@st.composite
def annotated(draw: st.DrawFn, name: str = "q") -> Annotation:
    """A question with events far enough apart that their windows never overlap."""
    task = draw(st.sampled_from(list(TASKS)))
    asked = draw(st.integers(0, 20))
    answers, clock = [], asked + 3.0
    for _ in range(draw(st.integers(1, 5))):
        start = clock + draw(st.integers(1, 20)) / 2
        end = start + draw(st.integers(1, 20)) / 2
        text = f"{start}s-{end}s" if task == "TG" else draw(st.sampled_from(["open", "shut", "Alert: fire."]))
        answers.append((start, end, text))
        clock = end + 8.0
    return question(task, *answers, asked=asked, name=name)


@st.composite
def benchmarks(draw: st.DrawFn) -> tuple[list[Annotation], list[Prediction]]:
    count = draw(st.integers(1, 6))
    annotations = [draw(annotated(f"q{i}")) for i in range(count)]
    said = st.lists(
        st.tuples(st.floats(0, 200), st.sampled_from(["open", "shut", "12s-20s", ""])).map(
            lambda r: Response(*r)
        ),
        max_size=8,
    ).map(tuple)
    answered = draw(st.lists(st.sampled_from(range(count)), unique=True))
    return annotations, [Prediction(f"q{i}", draw(said)) for i in answered]


def perfect(annotation: Annotation, last: bool = True) -> Prediction:
    task, asked = TASKS[annotation.task], annotation.query.time
    return Prediction(
        annotation.id,
        tuple(Response(task.best_time(a.start, a.end, asked)[last], a.text) for a in annotation.answers),
    )


def values(report: Report) -> list[float]:
    summaries = [*report.tasks.values(), *report.dimensions.values(), report.weighted, report.average]
    return [getattr(s, metric) for s in summaries if s for metric in METRICS]


def test_question_by_hand() -> None:
    annotation = question("EU", (10, 14, "one"), (20, 24, "two"), (30, 34, "three"))
    result = score_question(
        annotation, say((15, "one"), (24, "two"), (24, "two"), (32, "wrong"), (90, "three")), JUDGE
    )
    # S = 0.75 (a second late) + 1 + 0; five responses, three answers.
    assert (result.responses, result.answers, result.matched) == (5, 3, 3)
    assert result.time == pytest.approx((0.75 + 1 + 1) / 3)
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.precision == pytest.approx(1.75 / 5)
    assert result.recall == pytest.approx(1.75 / 3)
    assert result.f1 == pytest.approx(2 * 1.75 / 8)
    assert result.f1 == pytest.approx(2 / (1 / result.precision + 1 / result.recall))


@pytest.mark.parametrize(
    ("task", "moment", "text", "f1"),
    [
        ("EU", 33.0, "open", 0.25),
        ("OU", 18.0, "open", 0.5),
        ("AA", 23.0, "open", 0.5),
        ("TP", 31.0, "open", 0.75),
        ("TG", 31.0, "20s-25s", 0.375),
        ("GP", 18.0, "open", 0.5),
        ("RF", 16.0, "open", 0.5),
        ("RF", 19.0, "open", 0.5),
    ],
)
def test_one_answer_per_task_by_hand(task: str, moment: float, text: str, f1: float) -> None:
    assert score_question(question(task, (20, 30, "open")), say((moment, text)), JUDGE).f1 == pytest.approx(
        f1
    )


def test_averages_by_hand() -> None:
    annotations = [
        question("EU", (10, 14, "a"), name="1"),
        question("EU", (10, 14, "a"), name="2"),
        question("OU", (10, 14, "a"), name="3"),
        question("TP", (10, 14, "a"), name="4"),
        question("EC", (10, 11, "a"), name="5"),
    ]
    report = score(annotations, [say((10, "a"), name="1"), say((11, "a"), name="3")], JUDGE)
    assert {code: s.f1 for code, s in report.tasks.items()} == {"EU": 0.5, "OU": 0.75, "TP": 0.0, "EC": 0.0}
    assert {d: s.f1 for d, s in report.dimensions.items()} == pytest.approx({"PU": 1.75 / 3, "TR": 0.0})
    assert report.weighted and report.weighted.f1 == pytest.approx(1.75 / 4)  # EC is in no average
    assert report.average and report.average.f1 == pytest.approx(1.75 / 6)
    assert report.missing == ("2", "4", "5")
    assert report.weighted.questions == 4


def test_dimension_scores_of_the_paper_follow_from_its_task_scores() -> None:
    f1 = {"EU": 54.6, "OU": 36.4, "AA": 43.5, "TP": 58.8, "TG": 31.4, "GP": 10.6, "RF": 6.3}
    count = {"EU": 166, "OU": 144, "AA": 240, "TP": 296, "TG": 331, "GP": 33, "RF": 75}
    printed = {("EU", "OU", "AA"): 45.0, ("TP", "TG"): 44.4, ("GP", "RF"): 7.6, tuple(f1): 41.5}
    for codes, mean in printed.items():
        assert sum(f1[c] * count[c] for c in codes) / sum(count[c] for c in codes) == pytest.approx(
            mean, abs=0.07
        )


def test_training_tasks_alone_have_no_average() -> None:
    report = score([question("EC", (10, 11, "a"))], [say((11, "a"))], JUDGE)
    assert report.tasks["EC"].f1 == 1
    assert (report.weighted, report.average, report.dimensions) == (None, None, {})


def test_question_without_an_answer_scores_nothing_and_is_named() -> None:
    report = score([question("EU")], [say()], JUDGE)
    assert report.tasks["EU"].f1 == 0
    assert report.unanswerable == ("q",)
    assert report.missing == ()


def test_unknown_prediction_is_an_error() -> None:
    stray = Prediction("p", (), line=7)
    with pytest.raises(FormatError, match=r"line 7, key 'id'.*'p'"):
        score([question("EU", (1, 2, "a"))], [stray], JUDGE)


def test_ids_that_come_twice_are_an_error() -> None:
    once, twice = question("EU", (1, 2, "a")), [say((2, "a")), say()]
    with pytest.raises(FormatError, match=r"key 'id'.*'q' came before"):
        score([once], twice, JUDGE)
    with pytest.raises(FormatError, match="'q' came before"):
        score([once, once], [], JUDGE)


def test_no_question_is_an_error() -> None:
    with pytest.raises(FormatError, match="at least one question"):
        score([], [], JUDGE)


@UNHURRIED
@given(annotated(), st.booleans())
def test_perfect_predictions_score_one(annotation: Annotation, last: bool) -> None:
    result = score_question(annotation, perfect(annotation, last), JUDGE)
    assert {metric: getattr(result, metric) for metric in METRICS} == dict.fromkeys(METRICS, 1.0)


@UNHURRIED
@given(benchmarks())
def test_everything_lies_between_zero_and_one(case: tuple[list[Annotation], list[Prediction]]) -> None:
    report = score(*case, JUDGE, bootstrap=20)
    assert all(0 <= value <= 1 for value in values(report))
    for question_score in report.questions:
        assert all(0 <= getattr(question_score, metric) <= 1 for metric in METRICS)
    for summary in report.tasks.values():
        assert all(0 <= low <= high <= 1 for low, high in summary.intervals.values())


@UNHURRIED
@given(benchmarks(), st.randoms(use_true_random=False))
def test_order_of_lines_does_not_matter(
    case: tuple[list[Annotation], list[Prediction]], shuffler: random.Random
) -> None:
    annotations, predictions = case
    before = score(annotations, predictions, JUDGE, bootstrap=20)
    shuffler.shuffle(annotations)
    shuffler.shuffle(predictions)
    assert score(annotations, predictions, JUDGE, bootstrap=20) == before


@UNHURRIED
@given(
    annotated(), st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["open", "shut"]))), st.floats(0, 200)
)
def test_wrong_response_never_raises_precision_or_f1(
    annotation: Annotation, said: list[tuple[float, str]], moment: float
) -> None:
    before = score_question(annotation, say(*said), JUDGE)
    after = score_question(annotation, say(*said, (moment, "wrong")), JUDGE)
    assert after.precision <= before.precision
    assert after.recall == before.recall
    assert after.f1 <= before.f1


@UNHURRIED
@given(annotated(), st.lists(st.floats(0, 200), min_size=1))
def test_responses_outside_every_window_score_nothing(annotation: Annotation, moments: list[float]) -> None:
    task, asked = TASKS[annotation.task], annotation.query.time
    windows = [task.window(a.start, a.end, asked) for a in annotation.answers]
    text = annotation.answers[0].text
    outside = [(t, text) for t in moments if all(t < low - 1e-3 or t > high + 1e-3 for low, high in windows)]
    result = score_question(annotation, say(*outside), JUDGE)
    assert (result.matched, result.precision, result.recall, result.f1) == (0, 0, 0, 0)


def test_interval_covers_the_mean_and_shrinks_with_questions() -> None:
    rng = np.random.default_rng(1)

    def width(count: int) -> float:
        annotations = [question("OU", (10, 14, "a"), name=str(i)) for i in range(count)]
        predictions = [say((10, "a" if rng.random() < 0.5 else "b"), name=str(i)) for i in range(count)]
        report = score(annotations, predictions, JUDGE)
        low, high = report.tasks["OU"].intervals["f1"]
        assert low < report.tasks["OU"].f1 < high
        assert report.weighted and report.weighted.intervals["f1"] == (low, high)
        return high - low

    # A share of one half over n questions has a 95 % interval of about +-1.96 * 0.5 / sqrt(n).
    assert width(100) == pytest.approx(2 * 1.96 * 0.05, rel=0.2)
    assert width(400) == pytest.approx(2 * 1.96 * 0.025, rel=0.2)


def test_interval_is_seeded() -> None:
    annotations = [question("OU", (10, 14, "a"), name=str(i)) for i in range(20)]
    predictions = [say((10 + i / 7, "a"), name=str(i)) for i in range(20)]
    runs = [score(annotations, predictions, JUDGE, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0].tasks["OU"].intervals != runs[2].tasks["OU"].intervals


def test_whole_benchmark_is_scored_in_seconds() -> None:
    annotations, predictions = [], []
    for number in range(1300):
        task = BENCHMARK_TASKS[number % len(BENCHMARK_TASKS)]
        answers = [(10.0 * i + 10, 10.0 * i + 14, "The lock is now open.") for i in range(8)]
        annotations.append(question(task, *answers, name=str(number)))
        said = [(6.0 * i, "12s-20s" if task == "TG" else "the lock is now open") for i in range(20)]
        predictions.append(say(*said, name=str(number)))
    began = time.process_time()  # not the clock: other programs may keep the machine busy
    report = score(annotations, predictions, JUDGE)
    assert time.process_time() - began < 10
    assert report.weighted and report.weighted.questions == 1300 and report.weighted.f1 > 0
