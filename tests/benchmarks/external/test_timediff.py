"""TimeDiff: the shipped rule by hand, narration files and our own annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.external.timediff import read_conversations, score, turn_errors
from benchmarks.metric.annotations import Annotation, Answer, FormatError, Query, write_annotations


def errors(frames: list[int], said: list[int]) -> list[int]:
    return [turn.frames for turn in turn_errors(frames, said)]


@pytest.mark.parametrize(
    ("frames", "said", "expected"),
    [
        ([0, 10, 20], [10, 20], [0, 0]),
        ([0, 10, 20], [7, 9, 20], [3, 0]),  # the first reply of a turn counts
        ([0, 10, 20], [1, 11], [9, 9]),
        ([0, 10, 20], [13, 20], [3, 0]),  # late, and used up: the next turn is measured with 20
        ([0, 10, 20], [13], [3, 0]),  # silence in the last turn costs nothing
        ([0, 10, 20], [], [9, 0]),  # lateness is looked for over n - 1 frames ...
        ([0, 10, 13], [], [3, 0]),  # ... and at most over the next turn
        ([0, 1, 20], [], [0, 0]),  # a turn of one frame can't be late
        ([0, 1, 20], [3], [0, 17]),
        ([0, 10], [12], [0]),  # nothing comes after the end
        ([0, 10, 20], [0], [9, 0]),  # frame 0 started the clock
        ([5], [5], []),
    ],
)
def test_shipped_rule(frames: list[int], said: list[int], expected: list[int]) -> None:
    assert errors(frames, said) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.integers(0, 60)),
)
def test_no_error_is_longer_than_its_turn(frames: list[int], said: list[int]) -> None:
    turns = turn_errors(frames, said)
    assert len(turns) == len(frames) - 1
    for before, due, turn in zip(frames, frames[1:], turns, strict=False):
        assert 0 <= turn.frames < due - before
    assert errors(frames, frames) == [0] * len(turns)


def narrations(*lines: tuple[float, str]) -> list[dict[str, Any]]:
    return [{"time": time, "text": text} for time, text in lines]


def write(path: Path, value: object, *more: object) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in (value, *more)))
    return path


def test_narrations_become_frames(tmp_path: Path) -> None:
    lines = narrations(
        (0.2, "C stands."), (1.0, "C cuts."), (1.6, "C cuts."), (1.8, "C stirs."), (2.0, "C eats.")
    )
    gold = write(tmp_path / "n.json", {"video": {"a1": lines, "a2": []}})
    (conversation,) = read_conversations(gold, fps=2)
    # 0.2 -> 1, 1.0 -> 2, the repeat is left out, 1.8 -> 4, which 2.0 takes over
    assert (conversation.id, conversation.frames) == ("video/a1", (1, 2, 4))


def test_score_in_seconds_beside_baselines(tmp_path: Path) -> None:
    lines = narrations((0, "one"), (5, "two"), (10, "three"))
    gold = write(tmp_path / "n.json", {"v": {"a": lines, "b": narrations((3, "alone"))}})
    said = write(tmp_path / "p.jsonl", {"id": "v/a", "responses": [{"time": 4, "text": "two"}]})
    report = score(gold, said)
    assert report.predictions == {"TimeDiff": 0.25, "spoke": 0.5}  # (1 s + 0) / 2 turns, / 2 conversations
    assert report.baselines["always silent"] == {"TimeDiff": 9 / 2 / 2 / 2, "spoke": 0}
    assert report.baselines["constant, every frame"] == {"TimeDiff": 4.5 / 2, "spoke": 1}
    assert report.notes[1:] == (
        "1 conversations have nothing to measure and count 0",
        "1 of 2 conversations have no prediction and count as never answered: v/b",
    )


def test_our_annotations(tmp_path: Path) -> None:
    gold = tmp_path / "a.jsonl"
    answers = (Answer(8, 10, "b"), Answer(4, 6, "a"))
    write_annotations(gold, [Annotation("q", "v.mp4", 30.0, "TG", Query(2.0, "?"), answers)])
    (conversation,) = read_conversations(gold, fps=1)
    assert conversation.frames == (2, 6, 10)  # grounding is due at the end of the event
    said = write(tmp_path / "p.jsonl", {"question_id": "q", "model_response_list": []})
    assert score(gold, said, fps=1).predictions["TimeDiff"] == 1.5


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"v": {"a": [{"time": "1", "text": "x"}]}}, "key 'v.a[0].time': expected a number of seconds"),
        ({"v": {"a": narrations((5, "x"), (1, "y"))}}, "key 'v.a[1].time': expected narrations in the order"),
        ({"v": []}, "key 'v': expected an object, got a list"),
        ({}, "expected at least one conversation"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, annotations: object, message: str) -> None:
    gold, said = (
        write(tmp_path / "n.json", annotations),
        write(tmp_path / "p.jsonl", {"id": "x", "responses": []}),
    )
    with pytest.raises(FormatError) as caught:
        score(gold, said)
    assert message in str(caught.value)
