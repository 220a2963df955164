"""A language model as judge, against a real server: what is asked, what is kept, and how it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.metric.annotations import Annotation, Answer, Prediction, Query, Response
from benchmarks.metric.judges import Case, open_judge
from benchmarks.metric.judges.llm import LlmJudge, read_points
from benchmarks.metric.llm.budget import ApiBudget, BudgetExceeded, Limits
from benchmarks.metric.llm.client import LlmError, OpenAIClient, Retry
from benchmarks.metric.llm.reply_cache import ReplyCache
from benchmarks.metric.score import score
from edge_runtime.errors import ConfigError

QUESTION = Annotation("q", "v.mp4", 60.0, "OU", Query(3.0, "What changes?"), ())
ANSWER = Answer(10, 11, "The lock is now open.")


@pytest.fixture
def open_llm(chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LlmJudge]:
    monkeypatch.delenv("STREAMPRO_TEST_KEY", raising=False)

    def make(budget: int = 1000, workers: int = 4, attempts: int = 3, **options: Any) -> LlmJudge:
        client = OpenAIClient(
            chat_server.url,
            "judge-1",
            cache=ReplyCache(tmp_path / "judge.jsonl"),
            api_budget=ApiBudget(Limits(budget)),
            key_variable="STREAMPRO_TEST_KEY",
            retry=Retry(attempts=attempts, backoff_s=0.001),
            **options,
        )
        return LlmJudge(client, workers=workers)

    return make


def points(number: int) -> str:
    return json.dumps({"reason": "so it is", "points": number})


def by_first_digit(request: dict[str, Any], number: int) -> str:
    """Gives as many points as the first character of the response says."""
    return points(int(judged(request)["response"][0]))


def judged(request: dict[str, Any]) -> dict[str, str]:
    return dict(json.loads(request["messages"][1]["content"]))


def cases(*texts: str) -> list[Case]:
    return [Case(QUESTION, ANSWER, Response(10, text)) for text in texts]


def test_points_become_a_share(chat_server: Any, open_llm: Any) -> None:
    together = threading.Barrier(3)

    def answer(request: dict[str, Any], number: int) -> str:
        if number < 3:
            together.wait(60)  # broken unless three requests are on their way at once
        return by_first_digit(request, number)

    chat_server.answer = answer
    judge = open_llm()
    texts = [f"{i} of five" for i in range(6)]
    judge.prepare(cases(*texts))
    assert [judge.accuracy(*case) for case in cases(*texts)] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert len(chat_server.requests) == 6
    assert judged(chat_server.requests[0]) == {
        "task": "object understanding",
        "question": "What changes?",
        "reference": "The lock is now open.",
        "response": judged(chat_server.requests[0])["response"],
    }
    assert judge.name.startswith("llm judge-1, prompt ")


def test_nobody_is_asked_what_is_clear(chat_server: Any, open_llm: Any) -> None:
    judge = open_llm()
    judge.prepare(cases("the lock is now OPEN", "", "..."))
    assert [judge.accuracy(*case) for case in cases("the lock is now OPEN", "", "...")] == [1, 0, 0]
    assert chat_server.requests == []


def test_one_wording_is_asked_once(chat_server: Any, open_llm: Any) -> None:
    chat_server.answer = by_first_digit
    judge = open_llm()
    again = Case(QUESTION, Answer(40, 41, ANSWER.text), Response(41, "3 x"))
    judge.prepare([*cases("3 x", "3 x"), again])
    assert judge.accuracy(*again) == 0.6
    assert open_llm().accuracy(*again) == 0.6  # found in the file
    assert len(chat_server.requests) == 1


def test_score_asks_for_what_lies_in_a_window(chat_server: Any, open_llm: Any) -> None:
    chat_server.answer = by_first_digit
    grounding = Annotation("g", "v.mp4", 60.0, "TG", Query(0.0, "When?"), (Answer(4, 8, "4s-8s"),))
    change = Annotation("c", "v.mp4", 60.0, "OU", Query(0.0, "What?"), (ANSWER,))
    said = [
        Prediction("g", (Response(8, "4s-8s"),)),
        Prediction("c", (Response(10, "4 near"), Response(12, "5 late"), Response(50, "5 far off"))),
    ]
    report = score([grounding, change], said, open_llm(), bootstrap=0)
    assert sorted(judged(r)["response"] for r in chat_server.requests) == ["4 near", "5 late"]
    assert report.tasks["TG"].f1 == 1
    assert report.tasks["OU"].f1 == pytest.approx(2 * 0.8 / 4)


def test_judge_that_fails_gives_no_zero(chat_server: Any, reply_kind: Any, open_llm: Any) -> None:
    """It stops, what it judged is kept, and the next run asks for the rest alone."""

    def failing(request: dict[str, Any], number: int) -> Any:
        text = judged(request)["response"]
        return reply_kind(status=503) if text == "5 c" else by_first_digit(request, number)

    chat_server.answer = failing
    judge, wanted = open_llm(workers=1), cases("1 a", "3 b", "5 c", "2 d")
    with pytest.raises(
        LlmError, match=r"status 503 .*; 2 of 4 answers are judged and kept in .*judge\.jsonl;"
    ):
        judge.prepare(wanted)
    assert [judged(r)["response"] for r in chat_server.requests] == ["1 a", "3 b", *["5 c"] * 3]
    chat_server.requests.clear()
    chat_server.answer = by_first_digit
    judge = open_llm(workers=1)
    judge.prepare(wanted)
    assert [judge.accuracy(*case) for case in wanted] == [0.2, 0.6, 1, 0.4]
    assert [judged(r)["response"] for r in chat_server.requests] == ["5 c", "2 d"]


def test_budget_is_gone_on_with(chat_server: Any, open_llm: Any) -> None:
    chat_server.answer = by_first_digit
    wanted = cases(*(f"{i % 6} number {i}" for i in range(25)))
    for kept in (10, 20):
        with pytest.raises(BudgetExceeded, match=rf"10 requests is spent; {kept} of 25 .*larger budget"):
            open_llm(budget=10).prepare(wanted)
    judge = open_llm(budget=10)
    judge.prepare(wanted)
    assert len(chat_server.requests) == 25
    assert judge.accuracy(*wanted[7]) == 0.2


def test_nonsense_is_asked_again(chat_server: Any, open_llm: Any) -> None:
    replies = ["I would say five.", '{"points": 9}', points(4)]
    chat_server.answer = lambda request, number: replies[min(number, 2)]
    assert open_llm().accuracy(*cases("x")[0]) == 0.8
    chat_server.requests.clear()
    chat_server.answer = lambda request, number: "five"
    with pytest.raises(
        LlmError, match="failed 3 times, last with a reply that is no JSON object: five; 0 of 1"
    ):
        open_llm().accuracy(*cases("y")[0])


@pytest.mark.parametrize(
    "reply", ['{"points": 3}', ' ```json\n{"reason": "a", "points": 3}\n``` ', '```{"points":3}```']
)
def test_points_are_read(reply: str) -> None:
    assert read_points(reply) == 3


@pytest.mark.parametrize(
    "reply",
    [
        *("", "3", "[3]", '{"points": "3"}', '{"points": 3.5}', '{"points": true}', '{"points": -1}'),
        *('{"points": 6}', '{"score": 3}', 'Sure! {"points": 3}', "[" * 100_000),
    ],
)
def test_nothing_else_is_read(reply: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON object|without 'points'"):
        read_points(reply)


def test_needs_a_server() -> None:
    with pytest.raises(ConfigError, match="needs a server"):
        open_judge("llm")
