"""``python -m benchmarks.external``: tables, JSON, notes and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.external.__main__ import cli

QUESTION: dict[str, Any] = {
    "time": "[0:00:00 - 0:00:10]",
    "questions": [
        {
            "task_type": "Proactive Output",
            "question": 'When the box is open, output "box open".',
            "time_stamp": "00:00:04",
            "ground_truth_time_stamp": "00:00:10",
            "ground_truth_output": "box open",
        }
    ],
    "video_path": "./videos/sample_36_proactive.mp4",
}
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "pauc": (
        [
            {
                "question_id": "a",
                "duration": 20.0,
                "conversation": [{"role": "user", "content": "?", "time": 0}],
                "answer": [{"content": "x", "reply_timespan": [5.0, 15.0]}],
            }
        ],
        {"question_id": "a", "model_response_list": [{"role": "assistant", "content": "x", "time": 10.0}]},
    ),
    "ovo-forward": (
        [{"id": 1, "task": "REC", "test_info": [{"realtime": 4, "count": 2}]}],
        {"forward": [{"id": 1, "task": "REC", "test_info": [{"response": "2"}]}]},
    ),
    "streamingbench": (
        [QUESTION],
        {
            "id": "./videos/sample_36_proactive.mp4@00:00:04",
            "responses": [{"time": 9.0, "text": "box open"}],
        },
    ),
    "timediff": (
        {"v": {"a": [{"time": 0, "text": "x"}, {"time": 4, "text": "y"}]}},
        {"id": "v/a", "responses": [{"time": 3.0, "text": "y"}]},
    ),
}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("metric", EXAMPLES)
def test_every_score_has_its_baselines_beside_it(metric: str, tmp_path: Path) -> None:
    gold, said = EXAMPLES[metric]
    report_path = tmp_path / "report.json"
    files = (write(tmp_path / "gold.json", gold), write(tmp_path / "said.jsonl", said))
    result = call(metric, "--annotations", files[0], "--predictions", files[1], "--json", report_path)
    assert result.exit_code == 0
    for row in ("predictions", "always silent", "constant", "blind timer"):
        assert row in result.output
    report = json.loads(report_path.read_text())
    assert set(report) == {"metric", "columns", "predictions", "baselines", "notes", "items"}
    assert len(report["baselines"]) >= 3
    assert all(set(scores) == set(report["columns"]) for scores in report["baselines"].values())
    assert report["metric"].split()[0] in result.output


def test_predictions_of_a_converted_file_are_scored_by_the_peers_metric(tmp_path: Path) -> None:
    native, ours, back = (
        write(tmp_path / "native.json", [QUESTION]),
        tmp_path / "o.jsonl",
        tmp_path / "back.json",
    )
    result = call("convert", "streamingbench", "streampro", native, ours)
    assert result.stdout == ""
    assert "streamingbench to streampro: 1 records read, 1 written" in result.stderr
    record = {**json.loads(ours.read_text()), "id": "box"}
    call("convert", "streampro", "streamingbench", write(ours, record), back)
    said = write(tmp_path / "p.jsonl", {"id": "box", "responses": [{"time": 9.0, "text": "box open"}]})
    result = call("streamingbench", "--annotations", back, "--predictions", said)
    assert "100.00 │" in result.output


def test_convert_options(tmp_path: Path) -> None:
    native, out = write(tmp_path / "native.json", [QUESTION]), tmp_path / "out.jsonl"
    durations = write(tmp_path / "d.json", {"sample_36_proactive.mp4": 99.0})
    options = ("--task-map", "Proactive Output=AA", "--durations", durations)
    call("convert", "streamingbench", "streampro", native, out, *options)
    record = json.loads(out.read_text())
    assert (record["task"], record["duration"]) == ("AA", 99.0)
    result = call_failing("convert", "streamingbench", "streampro", native, out, "--task-map", "AA")
    assert "expected KIND=TASK" in result.stderr


def call_failing(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_errors_are_one_line(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    command = [
        sys.executable,
        "-m",
        "benchmarks.external",
        "pauc",
        "--annotations",
        "no.json",
        "--predictions",
        "p",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no.json: cannot be read (No such file or directory); check the path\n"
