"""Judges: exact words, and intervals read from free text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import ExactJudge, IouJudge, accuracy, normalise, open_judge, parse_interval
from edge_runtime.errors import ConfigError

UNHURRIED = settings(deadline=None)


def question(task: str, answer: Answer) -> Annotation:
    return Annotation("q", "v.mp4", 60.0, task, Query(0.0, "?"), (answer,))


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("12s-20s", (12, 20)),
        ("<12s-20s>", (12, 20)),
        ("12.5s \u2013 20.25s.", (12.5, 20.25)),
        ("It lasts from 12 s to 20 s", (12, 20)),
        ("12 seconds to 20 seconds", (12, 20)),
        ("between 12s and 20s", (12, 20)),
        ("12-20", (12, 20)),
        ("12-20s", (12, 20)),
        ("2-3 people, 12s-20s", (12, 20)),
        ("12S-20S", (12, 20)),
        ("\uff11\uff12s-\uff12\uff10s", (12, 20)),
        ("12s-12s", (12, 12)),
        ("12s-20s or 30s-40s", (12, 20)),
        ("20s-12s", None),
        ("0:12-0:20", None),
        ("12s", None),
        ("12s-", None),
        ("", None),
        ("no interval", None),
        ("1" * 400 + "s-" + "2" * 400 + "s", None),
    ],
)
def test_interval_is_read(text: str, interval: tuple[float, float] | None) -> None:
    assert parse_interval(text) == interval


@UNHURRIED
@given(st.text("0123456789s-. <>to:\u2013", max_size=60))
def test_any_text_can_be_parsed(text: str) -> None:
    interval = parse_interval(text)
    assert interval is None or 0 <= interval[0] <= interval[1] < float("inf")


def test_long_text_is_parsed_in_no_time() -> None:
    assert parse_interval(" " * 200_000 + "1" * 5_000 + " s" * 50_000) is None


@pytest.mark.parametrize(
    ("said", "iou"),
    [("10s-20s", 1.0), ("10s-15s", 0.5), ("5s-15s", 1 / 3), ("0s-10s", 0.0), ("15s-15s", 0.0), ("soon", 0.0)],
)
def test_iou(said: str, iou: float) -> None:
    answer = Answer(10, 20, "10s-20s")
    assert IouJudge().accuracy(question("TG", answer), answer, Response(20, said)) == pytest.approx(iou)


def test_iou_of_a_moment() -> None:
    answer = Answer(10, 10, "10s-10s")
    annotation = question("TG", answer)
    assert IouJudge().accuracy(annotation, answer, Response(10, "10s-10s")) == 1
    assert IouJudge().accuracy(annotation, answer, Response(10, "11s-11s")) == 0


@UNHURRIED
@given(*[st.floats(0, 1e4)] * 4)
def test_iou_is_a_share(a: float, b: float, c: float, d: float) -> None:
    answer = Answer(*sorted((a, b)), "x")
    said = Response(0, "{:.6f}s-{:.6f}s".format(*sorted((c, d))))
    assert 0 <= IouJudge().accuracy(question("TG", answer), answer, said) <= 1


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("The lock is now open.", 1),
        ("  the LOCK is\u00a0now open", 1),
        ("The lock is now closed.", 0),
        ("The lock is now open. The lock is now open.", 0),
        ("", 0),
        ("...", 0),
    ],
)
def test_exact(said: str, right: float) -> None:
    answer = Answer(1, 2, "The lock is now open.")
    assert ExactJudge().accuracy(question("OU", answer), answer, Response(1, said)) == right


def test_text_without_a_word_is_never_right() -> None:
    answer = Answer(1, 2, "!")
    assert ExactJudge().accuracy(question("OU", answer), answer, Response(1, "?")) == 0


def test_words_of_other_scripts_count() -> None:
    assert normalise("Épluche la carotte !") == "épluche la carotte"
    assert normalise("ドアが開く。") == "ドアが開く"
    assert normalise("दरवाज़ा खुला") != normalise("दरवाजा खला")


def test_grounding_is_judged_by_iou_whatever_the_judge() -> None:
    answer = Answer(10, 20, "10s-20s")
    assert accuracy(ExactJudge(), question("TG", answer), answer, Response(20, "10s-15s")) == 0.5
    assert accuracy(ExactJudge(), question("EU", answer), answer, Response(20, "10s-15s")) == 0


def test_judge_out_of_range_is_refused() -> None:
    class Generous:
        name = "generous"

        def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
            return 5.0

    answer = Answer(1, 2, "x")
    with pytest.raises(ValueError, match="generous"):
        accuracy(Generous(), question("EU", answer), answer, Response(1, "x"))


def test_judges_by_name() -> None:
    assert open_judge("exact").name == "exact"
    with pytest.raises(ConfigError, match="choose one of exact"):
        open_judge("oracle")
