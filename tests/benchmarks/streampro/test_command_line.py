"""``python -m benchmarks.streampro score``: tables, files and errors."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    Prediction,
    Query,
    Response,
    write_annotations,
    write_predictions,
)
from benchmarks.streampro.__main__ import cli


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two questions; the first is answered a second late, the second has no prediction line."""
    annotations, predictions = tmp_path / "a.jsonl", tmp_path / "p.jsonl"
    answers = (Answer(10, 14, "The lock is now open."),)
    write_annotations(
        annotations,
        [
            Annotation("one", "v.mp4", 30.0, "OU", Query(4.0, "?"), answers),
            Annotation("two", "v.mp4", 30.0, "EC", Query(4.0, "?"), answers),
        ],
    )
    write_predictions(predictions, [Prediction("one", (Response(11, "the lock is now OPEN"),))])
    return annotations, predictions


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["score", *map(str, arguments)], catch_exceptions=False)


def test_table_shows_score_and_baselines(files: tuple[Path, Path]) -> None:
    result = call("--annotations", files[0], "--predictions", files[1])
    assert result.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in result.output.splitlines() if "│" in line}
    assert lines["OU object understanding"].count(" 75.0 ") == 4  # Time, precision, recall and F1
    assert "EC event captioning*" in lines
    assert lines["W-Avg"].count(" 75.0 ") == 4
    assert lines["6 s after the query"].count(" 100.0 ") == 3  # OU, Avg, W-Avg
    assert "1 of 2 questions have no prediction line: two" in result.output
    assert "the scored file itself" in " ".join(result.output.split())


def test_markdown(files: tuple[Path, Path]) -> None:
    lines = call("--annotations", files[0], "--predictions", files[1], "--markdown").output.splitlines()
    assert lines[1].startswith("| --- | ---: |")
    assert "| OU object understanding | 1 | 1 | 1 | 75.0 | 100.0 | 75.0 | 75.0 | 75.0 | 75.0-75.0 |" in lines
    assert all(line.count("|") == lines[0].count("|") for line in lines[: lines.index("")])


def test_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    json_path, csv_path = tmp_path / "out/report.json", tmp_path / "out/questions.csv"
    call(
        "--annotations", files[0], "--predictions", files[1], "--json", json_path, "--per-question", csv_path
    )
    report = json.loads(json_path.read_text())
    assert report["weighted"]["f1"] == 0.75
    assert report["missing"] == ["two"]
    assert report["baselines"]["6 s after the query"]["weighted"]["f1"] == 1
    rows = list(csv.DictReader(csv_path.open()))
    assert [(row["id"], row["f1"], row["missing"]) for row in rows] == [
        ("one", "0.75", "False"),
        ("two", "0.0", "True"),
    ]
    assert sorted(p.name for p in json_path.parent.iterdir()) == ["questions.csv", "report.json"]


def test_prior_file_decides_what_baselines_say(files: tuple[Path, Path], tmp_path: Path) -> None:
    prior, json_path = tmp_path / "train.jsonl", tmp_path / "report.json"
    write_annotations(
        prior, [Annotation("t", "v.mp4", 9.0, "OU", Query(0.0, "?"), (Answer(1, 2, "The egg is hatching."),))]
    )
    call("--annotations", files[0], "--predictions", files[1], "--prior", prior, "--json", json_path)
    report = json.loads(json_path.read_text())
    assert report["baseline_answers_from"] == str(prior)
    assert report["baselines"]["6 s after the query"]["weighted"]["f1"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["score", "--annotations", "none.jsonl", "--predictions", "none.jsonl"],
            2,
            "error: none.jsonl: cannot be read",
        ),
        (["score", "--annotations", "none.jsonl"], 2, "Missing option '--predictions'"),
        (
            ["run", "--bundle", "no-such", "--annotations", "none.jsonl", "--out", "o.jsonl"],
            2,
            "error: none.jsonl",
        ),
        (["dance"], 2, "No such command 'dance'"),
    ],
)
def test_errors_are_for_people(arguments: list[str], status: int, message: str, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.streampro", *arguments], cwd=root, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_each_command_does() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    assert "score" in output and "run" in output
