"""Sessions of an endpoint against a real server on loopback that answers well or badly."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edge_runtime.config.endpoint import EndpointConfig
from edge_runtime.config.secret import Secret
from edge_runtime.engine.decision_loop import DecisionLoop
from edge_runtime.engine.endpoint import dispatcher
from edge_runtime.engine.endpoint.hourly import HourlyLimits
from edge_runtime.engine.endpoint.model import EndpointModel, try_endpoint
from edge_runtime.errors import BackendError, ConfigError
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Response
from tests.chat_server import ChatServer, Reply

KEY = "sk-endpoint-secret"
FRAME = np.full((36, 64, 3), 90, np.uint8)
Open = Callable[..., EndpointModel]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher.DispatchSettings.__init__, "__defaults__", (0.02,))
    monkeypatch.delenv("EDGE_RUN_ENDPOINT_KEY", raising=False)


@pytest.fixture
def open_model(chat_server: ChatServer) -> Iterator[Open]:
    opened: list[EndpointModel] = []

    def call(**settings: Any) -> EndpointModel:
        settings = {"url": chat_server.url, "model": "vlm", "frames": 3, "frame_size": 64, **settings}
        opened.append(EndpointModel(EndpointConfig(**settings)))
        return opened[-1]

    yield call
    for model in opened:
        model.close()


class Watch:
    """A decision loop with one question; what went out is in ``said``."""

    def __init__(self, model: EndpointModel, *texts: str) -> None:
        self.said: list[Response] = []
        self.steps: list[Any] = []
        queries = [QueryConfig(text) for text in texts or ("Is the door open?",)]
        self.loop = DecisionLoop(model, queries, EventIds("door"), self._deliver)
        self.loop.ask_due(0.0)
        self._frames = model.open_vision()

    def _deliver(self, response: Response) -> bool:
        self.said.append(response)
        return True

    def push(self, index: int) -> None:
        self.loop.step(self._frames.encode(self._frames.preprocess(FRAME)), index)

    def settle(self, timeout_s: float = 10.0) -> None:
        """Until nothing is undecided."""
        until(lambda: self.look() or not self.loop.undecided, timeout_s)

    def look(self) -> bool:
        self.steps += self.loop.late()
        return False


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def texts(request: dict[str, Any]) -> list[str]:
    return [part["text"] for part in request["messages"][1]["content"] if part["type"] == "text"]


def test_answers_carry_the_time_of_the_newest_frame_sent(chat_server: ChatServer, open_model: Open) -> None:
    said = ["Wait", "The door opens.", "The door opens!", "It closes."]
    chat_server.answer = lambda request, number: said[number]
    watch = Watch(open_model())
    for index in range(4):
        watch.push(index)
        watch.settle()
    assert [(r.time, r.text, r.score) for r in watch.said] == [
        (2.0, "The door opens.", 1.0),
        (4.0, "It closes.", 1.0),
    ]
    assert [step.decision.speak for step in watch.steps] == [False, True, False, True]
    assert [texts(request)[:-1] for request in chat_server.requests][2:] == [
        ["<0s-1s>", "<1s-2s>", "<2s-3s>"],
        ["<1s-2s>", "<2s-3s>", "<3s-4s>"],
    ]
    assert "Your last answer: The door opens." in texts(chat_server.requests[2])[-1]
    assert all(r["model"] == "vlm" and r["max_tokens"] == 128 for r in chat_server.requests)
    assert all(step.latency_ms["decision"] > 0 for step in watch.steps)


def test_the_same_answer_counts_again_once_its_frame_has_left(
    chat_server: ChatServer, open_model: Open
) -> None:
    chat_server.answer = lambda request, number: "Someone rings."
    watch = Watch(open_model())
    for index in range(7):
        watch.push(index)
        watch.settle()
    # Silent while the frame of the last answer lies in the window of 3; the policy holds back repeats of 5 s.
    assert [step.decision.time for step in watch.steps if step.decision.speak] == [1.0, 4.0, 7.0]
    assert [r.time for r in watch.said] == [1.0, 7.0]


def test_a_slow_server_gets_the_newest_window_and_no_queue(chat_server: ChatServer, open_model: Open) -> None:
    chat_server.answer = lambda request, number: Reply(f"answer {number}", delay_s=0.4)
    model = open_model()
    watch = Watch(model)
    began = time.monotonic()
    for index in range(10):
        watch.push(index)
        if index == 0:
            until(lambda: chat_server.requests)
    assert time.monotonic() - began < 0.35, "a push waited for the network"
    assert watch.loop.undecided == {1.0, 10.0}
    watch.settle()
    assert [r.time for r in watch.said] == [1.0, 10.0]
    assert len(chat_server.requests) == 2 and model.counts()["dropped"] == 8


def test_sessions_take_turns_and_share_the_concurrency(chat_server: ChatServer, open_model: Open) -> None:
    busy, most = [0], [0]

    def answer(request: dict[str, Any], number: int) -> str:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        busy[0] -= 1
        return "yes"

    chat_server.answer = answer
    watch = Watch(open_model(concurrency=2), "One?", "Two?", "Three?", "Four?")
    for index in range(3):
        watch.push(index)
        watch.settle()
    assert most[0] == 2 and len(chat_server.requests) == 12
    assert {r.query for r in watch.said} == {"q1", "q2", "q3", "q4"}


BAD = {
    "500": Reply(status=500, body=b'{"error": {"message": "out of memory"}}'),
    "429": Reply(status=429, headers={"Retry-After": "0.1"}),
    "garbage": Reply(body=b"\xff\x00<html>not json"),
    "wrong JSON": Reply(body=b'{"choices": []}'),
    "other JSON": Reply(body=b"[1, 2]"),
    "no text": Reply(text=None),
    "half": Reply(headers={"Content-Length": "5000"}),
    "hang up": Reply(hangs_up=True),
    "hang": Reply(delay_s=2.0),
    "trickle": Reply(delay_s=0.25, pieces=20),
}


@pytest.mark.parametrize("fault", list(BAD))
def test_an_outage_is_one_line_and_ends(
    chat_server: ChatServer, open_model: Open, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Every failed window is sent again: a recording loses nothing."""
    caplog.set_level(logging.WARNING)
    chat_server.answer = lambda request, number: BAD[fault] if number in (1, 2) else f"answer {number}"
    model = open_model(timeout_s=0.6)
    watch = Watch(model)
    outages = []
    for index in range(2):
        watch.push(index)
        until(lambda: outages.append(model.outage) or watch.look() or not watch.loop.undecided)
    assert [(r.time, r.text) for r in watch.said] == [(1.0, "answer 0"), (2.0, "answer 3")]
    assert any(outages) and not model.outage
    lines = [record.getMessage() for record in caplog.records if "openai" not in record.name]
    assert len(lines) == 2, lines
    assert "; retrying, frames are dropped until it answers" in lines[0] and "\n" not in lines[0]
    assert "answers again" in lines[1] and "2 failures" in lines[1]
    assert model.counts()["failed"] == 2


def test_a_server_that_comes_up_later(open_model: Open, caplog: pytest.LogCaptureFixture) -> None:
    server = ChatServer()
    port, url = server._http.server_port, server.url
    server.close()
    model = open_model(url=url)
    watch = Watch(model)
    watch.push(0)
    until(lambda: model.outage)
    assert "no reply" in model.outage
    server = ChatServer(port)
    try:
        watch.settle()
    finally:
        server.close()
    assert [r.text for r in watch.said] == ["yes"]


def test_giving_up_ends_the_run(chat_server: ChatServer, open_model: Open) -> None:
    chat_server.answer = lambda request, number: Reply(status=503)
    watch = Watch(open_model(give_up_s=0.1))
    watch.push(0)
    with pytest.raises(BackendError, match="no reply for 0 s: status 503"):
        watch.settle()


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "set the key in the environment: EDGE_RUN_ENDPOINT_KEY"), (404, "check the address, the model")],
)
def test_a_refusal_before_the_first_answer_ends_the_run(
    chat_server: ChatServer, open_model: Open, status: int, words: str
) -> None:
    chat_server.answer = lambda request, number: Reply(status=status, body=b'{"error": "no"}')
    watch = Watch(open_model())
    watch.push(0)
    with pytest.raises(BackendError, match=words):
        watch.settle()
    assert len(chat_server.requests) == 1


def test_a_refusal_later_is_an_outage(chat_server: ChatServer, open_model: Open) -> None:
    chat_server.answer = lambda request, number: Reply(status=401) if number == 1 else "yes"
    watch = Watch(open_model(frames=1))
    for index in range(2):
        watch.push(index)
        watch.settle()
    assert len(chat_server.requests) == 3


def test_a_limit_holds_back_and_is_said_once(
    chat_server: ChatServer, open_model: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    model = open_model(requests_per_hour=2)
    watch = Watch(model)
    for index in range(2):
        watch.push(index)
        watch.settle()
    for index in range(2, 8):
        watch.push(index)
        time.sleep(0.02)
    assert len(chat_server.requests) == 2 and model.counts()["limited"] >= 4
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "requests_per_hour = 2 is reached; nothing is sent for 60 min" in lines[0]


def test_tokens_that_are_not_counted_cannot_be_limited(chat_server: ChatServer, open_model: Open) -> None:
    chat_server.answer = lambda request, number: Reply(counts_tokens=False)
    watch = Watch(open_model(tokens_per_hour=1000))
    watch.push(0)
    watch.settle()
    watch.push(1)
    with pytest.raises(BackendError, match="tokens_per_hour cannot be kept; use requests_per_hour"):
        watch.settle()


def test_an_hour_slides() -> None:
    limits = HourlyLimits(2, 100)
    limits.sent(0.0)
    assert limits.wait_s(10.0) == (0.0, "")
    limits.sent(10.0)
    assert limits.wait_s(20.0) == (3580.0, "requests_per_hour = 2")
    assert limits.wait_s(3600.0) == (0.0, "")
    limits.spent(3600.0, 60)
    limits.spent(3610.0, 60)
    assert limits.wait_s(3620.0) == (3580.0, "tokens_per_hour = 100")
    assert limits.wait_s(7200.0) == (0.0, "")


def test_a_reply_to_a_withdrawn_question_counts_no_more(chat_server: ChatServer, open_model: Open) -> None:
    chat_server.answer = lambda request, number: Reply("old answer" if number == 0 else "new", delay_s=0.2)
    watch = Watch(open_model())
    watch.push(0)
    until(lambda: chat_server.requests)
    watch.loop.queries[0].reword("Is the window open?")
    assert not watch.loop.undecided
    watch.push(1)
    watch.settle()
    assert [r.text for r in watch.said] == ["new"]
    assert "Question, asked at 1s: Is the window open?" in texts(chat_server.requests[1])[-1]


def test_a_paused_question_costs_nothing(chat_server: ChatServer, open_model: Open) -> None:
    watch = Watch(open_model())
    query = watch.loop.queries[0]
    query.configure(QueryConfig(query.config.text, paused=True))
    watch.push(0)
    time.sleep(0.05)
    assert not chat_server.requests and not watch.loop.undecided


@pytest.mark.parametrize("text", ["", "  ", "x" * 2001, "\ud800"])
def test_questions_that_cannot_be_asked(open_model: Open, text: str) -> None:
    with pytest.raises(ConfigError, match="query: "):
        Watch(open_model(), text or " ")


def test_the_key_is_sent_and_never_shown(
    chat_server: ChatServer, open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RUN_ENDPOINT_KEY", KEY)
    chat_server.answer = lambda request, number: Reply(
        status=401, body=f'{{"error": {{"message": "bad key {KEY}"}}}}'.encode()
    )
    watch = Watch(open_model())
    watch.push(0)
    with pytest.raises(BackendError, match=r"bad key \*\*\*.*check the key in EDGE_RUN_ENDPOINT_KEY") as info:
        watch.settle()
    assert KEY not in str(info.value)
    assert chat_server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_model_that_is_not_listed(
    chat_server: ChatServer, open_model: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    chat_server.models = ["qwen", "smol"]
    open_model()
    assert "does not list model vlm; --model takes one of: qwen, smol" in caplog.text
    caplog.clear()
    chat_server.models = ["vlm:latest"]
    open_model()
    assert not caplog.records


def test_trying_sends_one_frame(chat_server: ChatServer) -> None:
    config = EndpointConfig(chat_server.url, "vlm", Secret())
    warning, took = try_endpoint(config)
    assert warning == "" and took > 0 and len(chat_server.requests) == 1
    chat_server.answer = lambda request, number: Reply(status=500)
    with pytest.raises(BackendError, match="status 500"):
        try_endpoint(config)
