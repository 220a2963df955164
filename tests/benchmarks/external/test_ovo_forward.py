"""OVO-Bench forward: the shipped rules by hand, results files, baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.external.ovo_forward import is_right, score
from benchmarks.metric.annotations import FormatError

REC = {
    "id": 1560,
    "task": "REC",
    "video": "perception_test/video_1.mp4",
    "activity": "opening something",
    "start_times": [1, 6],
    "end_times": [4, 9],
    "test_info": [{"realtime": 5, "count": 1}, {"realtime": 22.0, "count": 2}],
}
SSR = {
    "id": 1546,
    "task": "SSR",
    "video": "COIN/a.mp4",
    "tutorial": "MakeSlime",
    "all_steps": ["mix"],
    "start_time": [20],
    "end_time": [30],
    "test_info": [
        {"realtime": 18, "step": "mix", "type": 0},
        {"realtime": 22, "step": "mix", "type": 1},
        {"realtime": 30, "step": "mix", "type": 1},
        {"realtime": 40, "step": "mix", "type": 1},
    ],
}
CRR = {
    "id": 1492,
    "task": "CRR",
    "video": "MovieNet/a.mp4",
    "question": "Where do they go?",
    "answer": "Home.",
    "ask_time": 28,
    "clue_time": 40,
    "test_info": [{"realtime": 28, "type": 0}, {"realtime": 42, "type": 1}],
}
EPM = {
    "id": 8,
    "task": "EPM",
    "video": "Ego4D/a.mp4",
    "realtime": 7,
    "question": "?",
    "options": ["a"],
    "gt": 0,
}


def answered(record: dict[str, Any], *responses: object) -> dict[str, Any]:
    infos = zip(record["test_info"], responses, strict=True)
    return {**record, "test_info": [{**info, "response": response} for info, response in infos]}


def files(folder: Path, results: object, annotations: object = (REC, SSR, CRR, EPM)) -> tuple[Path, Path]:
    gold, said = folder / "ovo_bench_new.json", folder / "results.json"
    gold.write_text(json.dumps(annotations))
    said.write_text(json.dumps(results))
    return gold, said


@pytest.mark.parametrize(
    ("task", "expected", "reply", "right"),
    [
        ("REC", 12, "12", True),
        ("REC", 12, "1 or 2", True),  # all digits are joined: that is how it is shipped
        ("REC", 2, "two", False),
        ("REC", 0, "0 times", True),
        ("REC", 1, None, False),
        ("SSR", 1, "Yes, he is.", True),
        ("SSR", 1, "yes", False),
        ("SSR", 1, "Y", True),
        ("SSR", 0, "N", True),
        ("CRR", 0, "Not enough", True),  # holds "No"
        ("CRR", 0, "Yes", False),
        ("CRR", 0, None, False),
    ],
)
def test_rules(task: str, expected: int, reply: str | None, right: bool) -> None:
    assert is_right(task, expected, reply) is right


def test_score_is_the_mean_over_probes_and_tasks(tmp_path: Path) -> None:
    forward = [
        answered(REC, "1", ["2"]),
        answered(SSR, "Yes", "Yes", None, "Yes"),
        answered(CRR, "No", "No"),
    ]
    report = score(*files(tmp_path, {"backward": [{}], "realtime": [], "forward": forward}))
    assert report.predictions == {
        "REC": 1.0,
        "SSR": 0.5,
        "CRR": 0.5,
        "Forward": pytest.approx(2 / 3),
        "Forward by question": pytest.approx(2 / 3),
    }
    assert "not StreamPro-F1" in report.metric
    assert report.items[1] == {"id": "1546", "task": "SSR", "right": [False, True, False, True]}


def test_baselines_see_only_the_clock(tmp_path: Path) -> None:
    baselines = score(*files(tmp_path, [])).baselines
    assert set(baselines["always silent"].values()) == {0.0}
    constant = baselines['constant "Yes" / "1"']
    assert (constant["REC"], constant["SSR"], constant["CRR"]) == (0.5, 0.75, 0.5)
    timer = baselines["blind timer, 6 s"]  # SSR: No, No (4 s), Yes, Yes; CRR: No, Yes; REC: 1, 3
    assert (timer["REC"], timer["SSR"], timer["CRR"]) == (0.5, 0.75, 1.0)


def test_by_question_weighs_questions_and_absent_tasks_do_not_count(tmp_path: Path) -> None:
    other = {**CRR, "id": "x", "test_info": [{"realtime": 30, "type": 1}]}
    report = score(*files(tmp_path, [answered(CRR, "No", "Yes")], [CRR, other]))
    assert report.predictions["CRR"] == report.predictions["Forward"] == pytest.approx(2 / 3)
    assert report.predictions["Forward by question"] == 0.5
    assert report.predictions["REC"] is None
    assert "1 of 2 questions have no prediction and count as never answered: x" in report.notes


@pytest.mark.parametrize(
    ("annotations", "results", "message"),
    [
        ([EPM], [], "expected at least one record of the tasks REC, SSR, CRR"),
        ([{**REC, "id": None}], [], "record 1, key 'id': expected a whole number or text, got null"),
        (
            [{**CRR, "test_info": [{"realtime": 1, "type": 2}]}],
            [],
            "key 'test_info[0].type': expected 0 or 1, got 2",
        ),
        ([CRR], [answered(CRR, "No", 7)], "key 'test_info[1].response': expected text or null, got a number"),
        ([CRR], [CRR], "key 'test_info[0].response': expected a value, the key is missing"),
        ([CRR], [{**CRR, "test_info": []}], "key 'test_info': expected 2 probes as annotated, got 0"),
        ([CRR], [answered(CRR, "No", "No")] * 2, "key 'id': expected a value of its own"),
        ([CRR], [answered(REC, "1", "1")], "expected ids of annotated questions, got '1560'"),
        ("CRR", [], "expected an object, got text"),
    ],
)
def test_errors_name_file_record_and_key(
    tmp_path: Path, annotations: Any, results: Any, message: str
) -> None:
    with pytest.raises(FormatError) as caught:
        score(*files(tmp_path, results, annotations))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
