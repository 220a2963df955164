"""The judge's options of a command line, from words to scores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    Prediction,
    Query,
    Response,
    write_annotations,
    write_predictions,
)
from benchmarks.streampro.__main__ import main

KEY = "sk-judge-secret"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three questions, each answered in time but in other words."""
    answers = (Answer(10, 14, "The lock is now open."),)
    names = ("one", "two", "three")
    write_annotations(
        tmp_path / "a.jsonl", [Annotation(n, "v.mp4", 30.0, "OU", Query(4.0, "?"), answers) for n in names]
    )
    write_predictions(
        tmp_path / "p.jsonl", [Prediction(n, (Response(10, f"The lock is now {n}."),)) for n in names]
    )
    return ["--annotations", str(tmp_path / "a.jsonl"), "--predictions", str(tmp_path / "p.jsonl")]


@dataclass
class Done:
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """The command, run in this process as from a shell."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("STREAMPRO_JUDGE_KEY", KEY)

    def call(*arguments: str) -> Done:
        command = ["benchmarks.streampro", "score", "--bootstrap", "0", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        written = capsys.readouterr()
        assert KEY not in written.out + written.err
        return Done(status, written.out, written.err)

    return call


def four_points(request: dict[str, Any], number: int) -> str:
    return json.dumps({"reason": "near", "points": 4})


def test_language_model_from_the_command_line(
    chat_server: Any, files: list[str], score: Any, tmp_path: Path
) -> None:
    """Stopped by its budget, it goes on where it was; the key is nowhere to be read."""
    chat_server.answer = four_points
    server = ["--judge", "llm", "--judge-url", chat_server.url, "--judge-model", "judge-1"]
    server += ["--judge-price", "1,1", "--no-baselines", "--judge-workers", "1"]
    done = score(*files, *server, "--judge-budget", "2")
    assert (done.status, done.stdout) == (6, "")
    spent, error = done.stderr.splitlines()
    assert spent == "judge: 2 requests, 200 tokens in, 20 out, cost 0.0002"
    assert error.startswith(
        "error: the budget of 2 requests is spent; 2 of 3 answers are judged and kept in "
    )
    cache = tmp_path / "streampro-edge/judge.jsonl"
    assert str(cache) in error and KEY not in cache.read_text()

    report = tmp_path / "report.json"
    done = score(*files, *server, "--json", str(report))
    assert done.status == 0
    assert len(chat_server.requests) == 3
    found = json.loads(report.read_text())
    assert found["weighted"]["f1"] == pytest.approx(0.8)
    assert found["judge"].startswith("llm judge-1, prompt ")
    assert found["baselines"] == {}
    assert "baselines" not in done.stdout
    assert {h["authorization"] for h in chat_server.headers} == {f"Bearer {KEY}"}


def test_options_go_into_the_request(
    chat_server: Any, files: list[str], score: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMPRO_JUDGE_KEY")
    chat_server.answer = four_points
    server = ["--judge", "llm", "--judge-url", chat_server.url, "--judge-model", "m", "--judge-cache"]
    extra = '{"temperature": null, "max_tokens": null, "max_completion_tokens": 99}'
    done = score(*files, *server, str(tmp_path / "c.jsonl"), "--judge-extra", extra)
    assert done.status == 0
    assert set(chat_server.requests[0]) == {"model", "messages", "response_format", "max_completion_tokens"}
    assert "6 s after the query" in done.stdout
    assert "authorization" not in chat_server.headers[0]


def test_missing_key_is_said(
    chat_server: Any, reply_kind: Any, files: list[str], score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMPRO_JUDGE_KEY")
    chat_server.answer = lambda request, number: reply_kind(status=401, body=b'{"error": "who are you?"}')
    server = ["--judge", "llm", "--judge-url", chat_server.url, "--judge-model", "m"]
    done = score(*files, *server)
    assert (done.status, done.stdout) == (6, "")
    error = done.stderr.splitlines()[-1]
    assert "who are you?" in error and "set the key in the environment: STREAMPRO_JUDGE_KEY" in error
    assert "0 of 3 answers are judged" in error and "run the same command again" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "llm"], "give --judge-url and --judge-model"),
        (["--judge-url", "http://127.0.0.1:1"], "are for --judge llm, not for exact"),
        (["--judge", "llm", "--judge-url", "x", "--judge-model", "m", "--judge-budget", "x"], "budget 'x'"),
        (["--judge", "llm", "--judge-url", "nowhere", "--judge-model", "m"], "expected the address"),
    ],
)
def test_errors_are_one_line(files: list[str], score: Any, arguments: list[str], message: str) -> None:
    done = score(*files, *arguments)
    assert (done.status, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert message in done.stderr


def test_fields_from_the_command_line(files: list[str], score: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert score(*files, "--judge", "fields", "--json", str(report)).status == 0
    assert json.loads(report.read_text())["weighted"]["f1"] == 0.5


@pytest.mark.slow
def test_stopped_by_hand_it_keeps_what_it_paid_for(
    chat_server: Any, reply_kind: Any, files: list[str], tmp_path: Path
) -> None:
    """Ctrl-C waits for the replies on their way, keeps them, and begins nothing more."""
    answers = (Answer(10, 14, "The lock is now open."),)
    names = [f"q{i}" for i in range(200)]
    write_annotations(
        tmp_path / "a.jsonl", [Annotation(n, "v.mp4", 30.0, "OU", Query(4.0, "?"), answers) for n in names]
    )
    write_predictions(tmp_path / "p.jsonl", [Prediction(n, (Response(10, f"It is {n}."),)) for n in names])
    chat_server.answer = lambda request, number: reply_kind(four_points(request, number), delay_s=0.1)
    command = [sys.executable, "-m", "benchmarks.streampro", "score", *files, "--judge", "llm"]
    command += ["--judge-url", chat_server.url, "--judge-model", "m", "--judge-workers", "2"]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(chat_server.requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, written = process.communicate(timeout=60)
    assert process.returncode == 130, written
    assert written.splitlines()[-1] == "stopped" and "Traceback" not in written
    kept = (tmp_path / "streampro-edge/judge.jsonl").read_text().splitlines()
    assert 5 <= len(kept) == len(chat_server.requests) < 200
