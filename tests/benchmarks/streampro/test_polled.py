"""Offline models: a real server plays a model that tells dark frames from bright ones."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.metric.annotations import (
    Annotation,
    Prediction,
    Query,
    Response,
    read_predictions,
    write_annotations,
)
from benchmarks.metric.llm.budget import ApiBudget, Limits
from benchmarks.metric.llm.client import LlmError, OpenAIClient, Retry
from benchmarks.metric.llm.reply_cache import ReplyCache
from benchmarks.streampro.__main__ import cli
from benchmarks.streampro.polled import PolledRunner

LENGTH_S = 12
KEY = "sk-model-secret"
BRIGHT = {"sunrise": (5, 12), "flash": (3, 6)}
"""Seconds from and before which each clip is bright."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 12 s at 10 frames a second, 160x90, and questions on them."""
    folder = tmp_path_factory.mktemp("clips")
    for name, (begin, end) in BRIGHT.items():
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.bit_rate = 160, 90, 1_000_000
            stream.time_base = Fraction(1, 10)
            for number in range(LENGTH_S * 10):
                # A timestep's frame is the last one before its end: number 10 (k + 1) - 1.
                level = 220 if begin <= number / 10 < end else 30
                picture = av.VideoFrame.from_ndarray(np.full((90, 160, 3), level, np.uint8), format="rgb24")
                picture.pts = number
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    questions = [
        question(f"{name}/{asked:g}", name, asked) for name in BRIGHT for asked in (0.0, 4.5, LENGTH_S + 3.0)
    ]
    write_annotations(folder / "a.jsonl", questions)
    return folder


def question(name: str, clip: str, asked: float) -> Annotation:
    return Annotation(name, f"{clip}.mp4", float(LENGTH_S), "EU", Query(asked, f"How is the {clip}?"), ())


def content(request: dict[str, Any]) -> tuple[list[str], list[np.ndarray]]:
    """Texts and pictures of a request, in order."""
    parts = request["messages"][1]["content"]
    urls = [p["image_url"]["url"] for p in parts if p["type"] == "image_url"]
    prefix = "data:image/jpeg;base64,"
    assert all(url.startswith(prefix) for url in urls)
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(u.removeprefix(prefix))))) for u in urls]
    return [p["text"] for p in parts if p["type"] == "text"], pictures


def plays_a_model(request: dict[str, Any], number: int) -> str:
    """Says again and again whether the last frame is dark or bright; waits before the first bright one."""
    texts, pictures = content(request)
    if "have not answered" in texts[-1] and pictures[-1].mean() < 128:
        return "Wait." if number % 2 else " wait\n"
    return "It is bright." if pictures[-1].mean() > 128 else "It is dark."


EXPECTED = {
    "sunrise/0": [(6, "It is bright.")],
    "sunrise/4.5": [(6, "It is bright.")],
    "flash/0": [(4, "It is bright."), (7, "It is dark.")],
    "flash/4.5": [(5, "It is bright."), (7, "It is dark.")],
    "sunrise/15": [],
    "flash/15": [],
}
STEPS = 2 * (12 + 8)
"""Timesteps that end at 4.5 s or later: 8 of 12; none after the end of the clip."""


@pytest.fixture
def run(chat_server: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("STREAMPRO_MODEL_KEY", KEY)
    chat_server.answer = plays_a_model

    def call(*more: str, out: Path = tmp_path / "p.jsonl") -> Result:
        arguments = ["run", "--openai-url", chat_server.url, "--model", "vlm", "--annotations"]
        result = CliRunner().invoke(cli, [*arguments, str(folder / "a.jsonl"), "--out", str(out), *more])
        assert KEY not in result.output
        return result

    yield call


def spoken(path: Path) -> dict[str, list[tuple[float, str]]]:
    return {p.id: [(r.time, r.text) for r in p.responses] for p in read_predictions(path)}


def test_answers_come_when_they_are_new(chat_server: Any, run: Any, tmp_path: Path) -> None:
    result = run("--price", "1,2")
    assert result.exception is None
    assert spoken(tmp_path / "p.jsonl") == EXPECTED
    assert len(chat_server.requests) == STEPS
    assert f"vlm: {STEPS} requests, 4,000 tokens in, 400 out, cost 0.0048" in result.stderr
    assert {h["authorization"] for h in chat_server.headers} == {f"Bearer {KEY}"}
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.replies"))


def test_what_a_request_holds(chat_server: Any, run: Any) -> None:
    assert run("--frames", "3", "--frame-size", "80", "--workers", "1").exception is None
    assert all(r["model"] == "vlm" and r["temperature"] == 0 for r in chat_server.requests)
    seen = [content(r) for r in chat_server.requests[:12]]  # those of the first question
    assert [len(pictures) for _, pictures in seen] == [1, 2] + [3] * 10
    assert all(picture.shape == (45, 80, 3) for _, pictures in seen for picture in pictures)
    texts, pictures = seen[6]
    assert texts[:3] == ["<4s-5s>", "<5s-6s>", "<6s-7s>"]
    assert [bool(picture.mean() > 128) for picture in pictures] == [False, True, True]
    assert texts[3].split("\n")[:2] == [
        "Question, asked at 0s: How is the sunrise?",
        "Your last answer: It is bright.",
    ]
    assert "It is 7s now." in texts[3]
    asked_late = [content(r)[0] for r in chat_server.requests[12:20]]
    assert asked_late[0][:3] == ["<2s-3s>", "<3s-4s>", "<4s-5s>"]


def test_budget_ends_and_the_next_run_goes_on(chat_server: Any, run: Any, tmp_path: Path) -> None:
    """Every step is paid for once, also those of a question that was not finished."""
    statuses, messages = [], []
    for _ in range(10):
        result = run("--budget", "15", "--workers", "1")
        statuses.append(result.exit_code)
        messages.append(str(result.exception))
        if result.exception is None:
            break
    assert len(statuses) == -(-STEPS // 15)
    assert "budget of 15 requests is spent; 1 of 6 questions are answered and kept in" in messages[0]
    assert "run the same command again to go on, with a larger budget" in messages[0]
    assert "\n" not in messages[0]
    assert len(chat_server.requests) == STEPS
    assert spoken(tmp_path / "p.jsonl") == EXPECTED


def test_failing_server_loses_nothing(
    chat_server: Any, reply_kind: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMPRO_MODEL_KEY", raising=False)

    def runner() -> PolledRunner:
        api_budget = ApiBudget(Limits(None))
        cache = ReplyCache(tmp_path / "replies")
        retry = Retry(backoff_s=0.001, attempts=2)
        options: dict[str, Any] = {"key_variable": "STREAMPRO_MODEL_KEY", "retry": retry}
        client = OpenAIClient(chat_server.url, "vlm", cache=cache, api_budget=api_budget, **options)
        return PolledRunner(client, workers=2)

    def limited(request: dict[str, Any], number: int) -> Any:
        return reply_kind(status=429) if number >= 17 else plays_a_model(request, number)

    asked = [
        Annotation(**{**vars(question(f"{clip}/0", clip, 0.0)), "path": folder / "a.jsonl"})
        for clip in BRIGHT
    ]
    answers: dict[str, Prediction] = {}
    chat_server.answer = limited
    with pytest.raises(LlmError, match="failed 2 times, last with status 429"):
        runner().run(asked, lambda a, p: answers.update({a.id: p}))
    assert len(ReplyCache(tmp_path / "replies")) == 17
    chat_server.requests.clear()
    chat_server.answer = plays_a_model
    runner().run(asked, lambda a, p: answers.update({a.id: p}))
    assert len(chat_server.requests) == 24 - 17
    assert {name: [(r.time, r.text) for r in p.responses] for name, p in answers.items()} == {
        name: EXPECTED[name] for name in ("sunrise/0", "flash/0")
    }


def test_other_settings_need_another_file(run: Any, tmp_path: Path) -> None:
    run("--budget", "3")
    result = run("--frames", "2")
    assert "begun with other settings (frames)" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of --bundle, --checkpoint, and --openai-url"),
        (["--openai-url", "http://127.0.0.1:1"], "needs both --openai-url and --model"),
        (["--bundle", "nano", "--frames", "3"], "needs both --openai-url and --model"),
        (
            ["--bundle", "nano", "--openai-url", "http://127.0.0.1:1", "--model", "m"],
            "do not go with --openai-url",
        ),
    ],
)
def test_options_that_do_not_fit(folder: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    files = ["--annotations", str(folder / "a.jsonl"), "--out", str(tmp_path / "p.jsonl")]
    result = CliRunner().invoke(cli, ["run", *files, *arguments])
    assert result.exit_code == 2 and message in result.output


def test_predictions_are_scored_like_any_other(run: Any, folder: Path, tmp_path: Path) -> None:
    assert run().exception is None
    line = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert line == {"id": "sunrise/0", "responses": [{"time": 6.0, "text": "It is bright."}]}
    assert Response(6.0, "It is bright.") == read_predictions(tmp_path / "p.jsonl")[0].responses[0]
