"""Streamo-Instruct: what each record becomes, and what is lost."""

from __future__ import annotations

import copy
from pathlib import Path

from benchmarks.external.formats.changes import same
from benchmarks.external.formats.run import Options
from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    Query,
)
from tests.benchmarks.external.formats.samples import (
    STREAMO,
    from_ours,
    to_ours,
)


def test_streamo(tmp_path: Path) -> None:
    (got,), outcome = to_ours(tmp_path, "streamo", [STREAMO])
    assert (got.id, got.task, got.duration) == (f"{STREAMO['video_path']}@3", "EU", 10)
    assert got.query == Query(3.0, "What is the interviewer holding?")
    assert got.answers == (Answer(5, 6, "A microphone with a logo."), Answer(10, 10, "Now a card."))
    assert list(outcome.notes.lines()) == [
        "Streamo-Instruct 'QA' became EU: 1 record (record 1)",
        "length of the video guessed: the last time of the record (see --durations): 1 record (record 1)",
    ]


def test_streamo_times_follow_the_task(tmp_path: Path) -> None:
    query, answers = Query(2.0, "?"), (Answer(8.0, 12.0, "a"),)
    annotations = [
        Annotation(task, "v/a.mp4", 30.0, task, query, answers) for task in ("EU", "TG", "AA", "GP", "RF")
    ]
    records, notes = from_ours(tmp_path, "streamo", annotations)
    assert [record["response"][0] for record in records] == [
        {"content": "a", "st_time": 8.0, "end_time": 12.0, "time": ""},
        {"content": "a", "st_time": 8.0, "end_time": 12.0, "time": ""},
        {"content": "a", "st_time": "", "end_time": "", "time": "8"},
        {"content": "a", "st_time": "", "end_time": "", "time": "8"},
        {"content": "a", "st_time": "", "end_time": "", "time": "5"},
    ]
    assert records[0]["question"] == [{"content": "?", "time": "2"}]
    kept = "kept under 'streampro', which Streamo-Instruct's own tools do not read: answers: 3 records"
    assert f"{kept} (AA, GP, RF)" in notes


def test_streamo_record_with_several_questions_is_split_and_joined(tmp_path: Path) -> None:
    record = copy.deepcopy(STREAMO)
    record["question"] = [{"content": "one?", "time": "0"}, {"content": "two?", "time": 8}]
    annotations, outcome = to_ours(tmp_path, "streamo", [record, STREAMO])
    assert [[a.text for a in each.answers] for each in annotations[:2]] == [
        ["A microphone with a logo."],
        ["Now a card."],
    ]
    assert "split into one annotation per question: 1 record (record 1)" in outcome.notes.lines()
    assert same(from_ours(tmp_path, "streamo", None)[0], [record, STREAMO])


def test_streamo_leaves_out_what_its_own_script_leaves_out(tmp_path: Path) -> None:
    record = copy.deepcopy(STREAMO)
    record["question"] = []
    record["response"] = [{"content": "", "time": 3}, {"content": "x", "st_time": 1}, *record["response"]]
    (got,), outcome = to_ours(tmp_path, "streamo", [record])
    assert len(got.answers) == 2
    assert got.query.time == 0
    lines = list(outcome.notes.lines())
    assert lines[0] == "no question, so Streamo's default one: 1 record (record 1)"
    assert lines[1] == "kept, but not an answer: responses without text or time: 1 record (record 1)"
    assert same(from_ours(tmp_path, "streamo", None)[0], [record])


def test_task_map(tmp_path: Path) -> None:
    records = [STREAMO, {**STREAMO, "task_type": "narration"}, {**STREAMO, "task_type": "AA"}]
    annotations, _ = to_ours(tmp_path, "streamo", records, Options({"QA": "TP", "": "EC"}))
    assert [a.task for a in annotations] == ["TP", "EC", "AA"]
