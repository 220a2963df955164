"""PAUC: the published formula by hand, both variants, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.external.pauc import PROTOCOLS, Turn, contains, drop_late, judge_turn, pauc, score
from benchmarks.external.replies import Reply
from benchmarks.metric.annotations import FormatError

SPAN = (100.0, 110.0)


@pytest.mark.parametrize(
    ("points", "of_4", "of_2"),
    [
        ([], 0.125, 0.25),
        ([(0, 1.0)], 1.0, 1.0),
        ([(5, 1.0)], 0.78125, 0.8125),
        ([(10, 1.0)], 0.5625, 0.625),
        ([(0, 0.0)], 0.0, 0.0),
        ([(10, 0.0)], 0.0625, 0.125),
        ([(2, 0.5), (8, 1.0)], 0.7625, 0.775),
    ],
)
def test_vectors(points: list[tuple[float, float]], of_4: float, of_2: float) -> None:
    for full, expected in ((4, of_4), (2, of_2)):
        shifted = [(SPAN[0] + time, value * full) for time, value in points]
        assert pauc(shifted, SPAN, full, omega=0.5) == pytest.approx(expected, abs=1e-12)


def test_omega_decides_what_lateness_costs() -> None:
    late = [(110.0, 2.0)]
    assert pauc(late, SPAN, 2, omega=0.0) == 0.25  # as good as silence
    assert pauc(late, SPAN, 2, omega=1.0) == 1.0  # lateness is free


def test_span_without_length_is_its_last_reply() -> None:
    assert pauc([(5.0, 0.0), (5.0, 2.0)], (5.0, 5.0), 2, omega=0.5) == 1.0
    assert pauc([], (5.0, 5.0), 2, omega=0.5) == 0.25


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 10), st.sampled_from([0.0, 1.0, 2.0])), max_size=5),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
def test_stays_in_range_whatever_the_order(
    points: list[tuple[float, float]], omega: float, random: Any
) -> None:
    points = list({time: (time, value) for time, value in points}.values())
    value = pauc(points, (0.0, 10.0), 2, omega)
    assert -1e-9 <= value <= 1 + 1e-9
    random.shuffle(points)
    assert pauc(points, (0.0, 10.0), 2, omega) == pytest.approx(value)


def test_late_worse_reply_belongs_to_the_next_answer() -> None:
    assert drop_late([(1, 1.0), (3, 2.0), (9, 1.0)], related_end=5) == [(1, 1.0), (3, 2.0)]
    assert drop_late([(3, 1.0), (9, 2.0)], related_end=5) == [(3, 1.0), (9, 2.0)]
    assert drop_late([(9, 0.0)], related_end=5) == [(9, 0.0)]


def test_repeats_are_dropped_and_texts_joined() -> None:
    turn = Turn("red fox", (0.0, 9.0), (0.0, 10.0))
    replies = [Reply(1, "A red"), Reply(2, "A red"), Reply(3, "fox!"), Reply(10, "x"), Reply(11, "red fox")]
    assert judge_turn(turn, replies, PROTOCOLS["proactivevideoqa"]) == [(1, 0), (3, 2), (10, 2)]
    assert judge_turn(turn, replies, PROTOCOLS["mmduet2"]) == [(1, 0), (3, 0), (10, 0)]


def test_contains_compares_whole_words() -> None:
    assert contains("It is the FOX, red.", "fox red") == 1
    assert contains("foxes", "fox") == 0
    assert contains("anything", "...") == 0


def question(name: str = "q%Q1", **changes: Any) -> dict[str, Any]:
    return {
        "video": "clip=01.mp4",
        "question_id": name,
        "conversation": [
            {"role": "user", "content": "What appears?", "time": 0},
            {"role": "user", "content": "Subtitle: Hello.", "time": 3.5},
        ],
        "answer": [
            {
                "role": "assistant",
                "content": "A crown.",
                "related_timespan": [10.0, 19.0],
                "reply_timespan": [10.0, 20.0],
            }
        ],
        "duration": 30.5,
        **changes,
    }


def files(folder: Path, questions: Any, predictions: Any, *, lines: bool = True) -> tuple[Path, Path]:
    gold, said = folder / "anno.json", folder / "pred.jsonl"
    gold.write_text(json.dumps(questions))
    said.write_text("".join(json.dumps(p) + "\n" for p in predictions) if lines else json.dumps(predictions))
    return gold, said


def turn(time: float, content: str, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": content, "time": time}


def test_mmduet_predictions(tmp_path: Path) -> None:
    said = [turn(10, "A crown.", "user"), turn(12, "NO REPLY"), turn(15, "I see a crown: a crown")]
    gold, pred = files(tmp_path, [question()], [{"question_id": "q%Q1", "model_response_list": said}])
    report = score(gold, pred)
    assert report.predictions == {"omega 0": 0.625, "omega 0.5": 0.8125, "omega 1": 1.0}
    assert report.baselines["always silent"] == {"omega 0": 0.25, "omega 0.5": 0.25, "omega 1": 0.25}
    assert report.baselines["constant, every second"]["omega 0.5"] == 1.0  # it knows the answer: see notes
    assert score(gold, pred, "mmduet2").predictions["omega 0.5"] == 0.78125


def test_our_predictions_and_missing_ones(tmp_path: Path) -> None:
    ours = {"id": "q%Q1", "responses": [{"time": 10, "text": "a crown"}]}
    gold, pred = files(tmp_path, [question(), question("other")], [ours])
    report = score(gold, pred)
    assert report.predictions["omega 0.5"] == (1 + 0.25) / 2
    assert "1 of 2 questions have no prediction" in report.notes[-1]


def test_judged_file_is_used_as_it_is(tmp_path: Path) -> None:
    judged = question()
    judged["answer"][0]["judge_scores"] = {"12.0": 1, "18.0": 2, "19.5": 1, "25.0": 2}
    gold, pred = files(tmp_path, [question()], [judged], lines=False)
    report = score(gold, pred)
    # 19.5 is worse and after the event, 25 is outside the span
    assert report.items[0]["points"] == [[12.0, 1.0], [18.0, 2.0], [19.5, 1.0]]
    assert report.predictions["omega 0.5"] == pytest.approx((1 * 0.5 + 3 * 1 + 6 * 2) / 20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question_id": 7}, "record 1, key 'question_id': expected text, got a number"),
        ({"conversation": []}, "key 'conversation': expected a list that begins with the user's question"),
        ({"duration": None}, "key 'duration': expected a number of seconds"),
        (
            {"answer": [{"content": "x"}]},
            "key 'answer[0].reply_timespan': expected a value, the key is missing",
        ),
        (
            {"answer": [{"content": "x", "reply_timespan": [2, 1]}]},
            "key 'answer[0].reply_timespan': expected an end not before the start (2), got 1",
        ),
        (
            {"answer": [{"content": "x", "reply_timespan": [2]}]},
            "key 'answer[0].reply_timespan': expected [start, end], got a list of 1",
        ),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    gold, pred = files(tmp_path, [question(**changes)], [])
    with pytest.raises(FormatError) as caught:
        score(gold, pred)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{gold}, ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (
            {"question_id": "nobody", "model_response_list": []},
            "expected ids of annotated questions, got 'nobody'",
        ),
        ({"question_id": "q%Q1", "model_response_list": [{"role": "assistant"}]}, "[0].content"),
        ({"id": "q%Q1"}, "key 'responses'"),
        ({"question_id": "q%Q1", "answer": []}, "expected 1 true answers as in the annotations, got 0"),
        (
            {"question_id": "q%Q1", "answer": [{"judge_scores": {"12": 3}}]},
            "key 'answer[0].judge_scores.12': expected points from 0 to 2",
        ),
    ],
)
def test_bad_predictions_are_named(tmp_path: Path, prediction: dict[str, Any], message: str) -> None:
    gold, pred = files(tmp_path, [question()], [prediction])
    with pytest.raises(FormatError) as caught:
        score(gold, pred)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(pred))
