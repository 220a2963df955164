"""StreamingBench proactive output: both counts by hand, JSON and CSV, results and replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.external.streamingbench import read_questions, score
from benchmarks.metric.annotations import FormatError
from edge_runtime.errors import ConfigError


def subset(video: str = "./videos/sample_21_proactive.mp4", **changes: Any) -> dict[str, Any]:
    question = {
        "task_type": "Proactive Output",
        "question": 'When the scoreboard shows "AD" for COBOLLI , output "Break point".',
        "time_stamp": "00:10:18",
        "ground_truth_time_stamp": "00:10:25",
        "ground_truth_output": "Break point",
        "required_ability": "working memory",
        **changes,
    }
    return {
        "time": "[0:09:40 - 0:10:10]",
        "questions": [question],
        "video_categories": "tennis",
        "video_path": video,
    }


def result(time: float, content: str) -> dict[str, Any]:
    polls = [{"role": "assistant", "content": "no", "time": 619, "cost": 0.5}]
    return {
        "answered": time,
        "dialog_history": [*polls, {"role": "assistant", "content": content, "time": time, "cost": 0.5}],
    }


def write(folder: Path, name: str, value: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("time", "content", "expected"),
    [
        (625, "Break point", (1, 1)),
        (623, "It is Break point now", (1, 1)),
        (627, "break point", (1, 0)),  # case counts, as in the project's count
        (628, "Break point", (0, 0)),
        (622.5, "Break point", (0, 0)),
        (629, "no", (0, 0)),  # polled to the end
    ],
)
def test_time_and_answer(tmp_path: Path, time: float, content: str, expected: tuple[float, float]) -> None:
    gold = write(tmp_path, "questions.json", [subset()])
    said = write(tmp_path, "results.json", [subset(Model_7B=result(time, content))])
    report = score(gold, said)
    assert (report.predictions["time"], report.predictions["time and answer"]) == expected


def test_baselines(tmp_path: Path) -> None:
    soon = subset("b.mp4", time_stamp="0:00:00", ground_truth_time_stamp="2", question="Say it.")
    gold = write(tmp_path, "questions.json", [subset(), soon])
    said = write(tmp_path, "results.json", [subset(M=result(0, "")), soon])
    report = score(gold, said)
    assert report.baselines == {
        "always silent": {"time": 0, "time and answer": 0},
        "constant, at once": {"time": 0.5, "time and answer": 0.5},
        "blind timer, 6 s": {"time": 0.5, "time and answer": 0.5},
    }
    assert "1 of 2 questions have no prediction" in report.notes[-1]


def test_model_must_be_known_when_there_are_several(tmp_path: Path) -> None:
    gold = write(tmp_path, "questions.json", [subset()])
    said = write(tmp_path, "results.json", [subset(A=result(625, "Break point"), B=result(0, ""))])
    with pytest.raises(ConfigError, match="has results of A, B; choose one model with --model"):
        score(gold, said)
    assert score(gold, said, "A").predictions["time"] == 1
    with pytest.raises(ConfigError, match="has no results of 'C'"):
        score(gold, said, "C")


def test_first_reply_after_the_question_counts(tmp_path: Path) -> None:
    gold = write(tmp_path, "questions.json", [subset()])
    said = tmp_path / "replies.jsonl"
    texts = [(600, "too early"), (626, "Break point"), (640, "again")]
    name = "./videos/sample_21_proactive.mp4@00:10:18"
    said.write_text(json.dumps({"id": name, "responses": [{"time": t, "text": x} for t, x in texts]}))
    assert score(gold, said).predictions == {"time": 1, "time and answer": 1}


def test_csv(tmp_path: Path) -> None:
    gold = tmp_path / "Proactive_Output.csv"
    gold.write_text(
        "time,task_type,question,time_stamp,ground_truth_time_stamp,ground_truth_output,temporal_clue_type,"
        "frames_required,question_id\n"
        '[0:00:00 - 0:01:00],Proactive Output,"When 20 appears, output ""20""",00:00:26,00:01:01,20,'
        "Subsequent,single,Proactive Output_sample_1_1\n"
    )
    (question,) = read_questions(gold)
    assert (question.id, question.asked, question.true_time) == ("Proactive Output_sample_1_1", 26, 61)
    assert (question.text, question.output) == ('When 20 appears, output "20"', "20")


def test_questions_at_the_same_moment_get_names_of_their_own(tmp_path: Path) -> None:
    gold = write(tmp_path, "questions.json", [subset("v.mp4"), subset("v.mp4"), subset("w.mp4")])
    names = [question.id for question in read_questions(gold)]
    assert names == ["v.mp4@00:10:18", "v.mp4@00:10:18#2", "w.mp4@00:10:18"]


@pytest.mark.parametrize(
    ("annotations", "results", "message"),
    [
        (
            [subset(time_stamp="00:10:5x")],
            [],
            "record 1, key 'questions[0].time_stamp': expected a time stamp",
        ),
        ([subset(time_stamp=618)], [], "key 'questions[0].time_stamp': expected text, got a number"),
        ([{"questions": None}], [], "key 'questions': expected a list of objects, got null"),
        ([subset()], [subset("other.mp4", M=result(0, ""))], "expected ids of annotated questions"),
        ([subset()], [subset(M={"dialog_history": [{}]})], "questions[0].M.dialog_history[0].time"),
        ([], [], "expected at least one question"),
    ],
)
def test_errors_name_file_record_and_key(
    tmp_path: Path, annotations: Any, results: Any, message: str
) -> None:
    gold, said = write(tmp_path, "questions.json", annotations), write(tmp_path, "results.json", results)
    with pytest.raises(FormatError) as caught:
        score(gold, said)
    assert message in str(caught.value)
