"""Annotation and prediction files: what is read is what was written, and every bad line is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    FormatError,
    Prediction,
    Query,
    Response,
    read_annotations,
    read_predictions,
    write_annotations,
    write_predictions,
)
from benchmarks.metric.tasks import TASKS

UNHURRIED = settings(deadline=None, max_examples=40)
QUESTION: dict[str, Any] = {
    "id": "tent-0007/q1",
    "video": "clips/tent.mp4",
    "duration": 128.0,
    "task": "EU",
    "query": {"time": 14.0, "text": "What does the person do?"},
    "answers": [{"start": 18.0, "end": 24.0, "text": "Spreads the tent."}],
}

seconds = st.floats(0, 1e6)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e9, 1e9)
    | st.text("ab\u2028\n", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
extras = st.dictionaries(st.sampled_from(["source", "split", "licence"]), json_values, max_size=2)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    start, end = sorted((draw(seconds), draw(seconds)))
    return Answer(start, end, draw(words), draw(extras))


@st.composite
def questions(draw: st.DrawFn) -> list[Annotation]:
    ids = draw(st.lists(words, max_size=4, unique=True))
    return [
        Annotation(
            id=name,
            video=draw(words),
            duration=draw(st.floats(0.1, 1e6)),
            task=draw(st.sampled_from(list(TASKS))),
            query=Query(draw(seconds), draw(words), draw(extras)),
            answers=tuple(draw(st.lists(answers(), max_size=3))),
            rubric=tuple(draw(st.lists(extras, max_size=2))),
            extra=draw(extras),
        )
        for name in ids
    ]


def write(folder: Path, *records: Any) -> Path:
    path = folder / "file.jsonl"
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@UNHURRIED
@given(questions())
def test_annotations_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, written: list[Annotation]
) -> None:
    path = tmp_path_factory.mktemp("round") / "a.jsonl"
    write_annotations(path, written)
    read = read_annotations(path)
    assert read == written
    assert [a.line for a in read] == list(range(1, len(written) + 1))
    assert [p.name for p in path.parent.iterdir()] == ["a.jsonl"]


@UNHURRIED
@given(st.lists(st.tuples(seconds, st.text(st.characters(exclude_categories=["Cs"])))), extras)
def test_predictions_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[float, str]], extra: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("round") / "p.jsonl"
    written = [Prediction("q", tuple(Response(t, text) for t, text in said), extra=extra)]
    write_predictions(path, written)
    assert read_predictions(path) == written


def test_clip_is_relative_to_the_annotation_file(tmp_path: Path) -> None:
    path = write(tmp_path, QUESTION, {**QUESTION, "id": "2", "video": "/videos/tent.mp4"})
    relative, absolute = read_annotations(path)
    assert relative.video_path == tmp_path / "clips/tent.mp4"
    assert absolute.video_path == Path("/videos/tent.mp4")


def test_line_separators_in_text_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    record = json.dumps({**QUESTION, "answers": [{"start": 1, "end": 2, "text": text}]}, ensure_ascii=False)
    assert read_annotations(write(tmp_path, record))[0].answers[0].text == text


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(QUESTION).encode() + b"\r\n")
    assert read_annotations(path)[0].id == QUESTION["id"]


def test_empty_text_is_a_response_but_no_answer(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "q", "responses": [{"time": 1, "text": ""}]})
    assert read_predictions(path)[0].responses == (Response(1.0, ""),)
    with pytest.raises(FormatError, match=r"answers\[0\]\.text"):
        read_annotations(write(tmp_path, {**QUESTION, "answers": [{"start": 1, "end": 2, "text": " "}]}))


def _with(**changes: Any) -> dict[str, Any]:
    return {**QUESTION, **changes}


def _answer(**changes: Any) -> dict[str, Any]:
    return _with(answers=[QUESTION["answers"][0], {"start": 30.0, "end": 31.0, "text": "x", **changes}])


@pytest.mark.parametrize(
    ("record", "key", "expected"),
    [
        ("{", "", "one JSON object, got an error at column"),
        ("", "", "one JSON object, got nothing"),
        ("[" * 100_000, "", "too deeply nested"),
        ("[1]", "", "an object, got a list"),
        ('{"id": 1, "id": 2}', "", "key 'id' twice"),
        ('{"id": NaN}', "", "NaN, which JSON does not have"),
        ('{"id": -Infinity}', "", "-Infinity, which JSON does not have"),
        ({k: v for k, v in QUESTION.items() if k != "video"}, "video", "the key is missing"),
        (_with(id=7), "id", "text, got a number"),
        (_with(id=""), "id", "not empty"),
        (_with(id="\ud800"), "id", "surrogate"),
        (_with(task="XX"), "task", "one of EU, OU, AA, TP, TG, GP, RF, EC, AC, got 'XX'"),
        (_with(duration=0), "duration", "a positive number of seconds, got 0"),
        (_with(duration=True), "duration", "got a boolean"),
        (_with(duration="3"), "duration", "got text"),
        (_with(query=None), "query", "an object, got null"),
        (_with(query={"time": -1, "text": "x"}), "query.time", "0 or more, got -1"),
        (_with(query={"time": 1}), "query.text", "the key is missing"),
        (json.dumps(_with(query={"time": 99, "text": "x"})).replace("99", "1e999"), "query.time", "got inf"),
        (_with(query={"time": 10**400, "text": "x"}), "query.time", "got inf"),
        (_with(answers={}), "answers", "a list of objects, got an object"),
        (_with(answers=["x"]), "answers[0]", "an object, got text"),
        (_answer(end=29.5), "answers[1].end", "a time not before start (30), got 29.5"),
        (_answer(start=None), "answers[1].start", "got null"),
        (_with(rubric=[1]), "rubric[0]", "an object, got a number"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, record: Any, key: str, expected: str) -> None:
    path = write(tmp_path, _with(id="good"), record)
    with pytest.raises(FormatError) as caught:
        read_annotations(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2")
    assert (f"key '{key}'" in message) == bool(key)
    assert expected in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"id": "q"}, "responses"),
        ({"id": "q", "responses": [{"time": -0.5, "text": "x"}]}, "responses[0].time"),
        ({"id": "q", "responses": [{"time": 1}]}, "responses[0].text"),
        ({"id": "q", "responses": [[1, "x"]]}, "responses[0]"),
    ],
)
def test_bad_prediction_is_named(tmp_path: Path, record: Any, key: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_predictions(write(tmp_path, record))
    assert f"line 1, key '{key}'" in str(caught.value)


def test_repeated_id_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"line 3, key 'id'.*line 1"):
        read_annotations(write(tmp_path, QUESTION, _with(id="other"), QUESTION))


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(QUESTION).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(FormatError, match="line 2: expected UTF-8 text, byte 9"):
        read_annotations(path)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read_predictions(tmp_path / "none.jsonl")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [Prediction("old", ())])
    with pytest.raises(ValueError):
        write_predictions(path, [Prediction("new", (Response(float("nan"), "x"),))])
    assert read_predictions(path) == [Prediction("old", ())]
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]
