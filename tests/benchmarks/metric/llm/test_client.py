"""The client against a real server that limits, fails, dawdles and talks nonsense."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metric.llm.budget import ApiBudget, BudgetExceeded, Limits, Price
from benchmarks.metric.llm.client import LlmError, OpenAIClient, Retry, parse_extra, resumable
from benchmarks.metric.llm.reply_cache import ReplyCache, content_key
from edge_runtime.errors import ConfigError

VARIABLE = "STREAMPRO_TEST_KEY"
KEY = "sk-very-secret-0123456789"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def client(
    server: Any, folder: Path, budget: Limits | None = None, price: Price | None = None, **options: Any
) -> OpenAIClient:
    cache = ReplyCache(folder / "replies.jsonl")
    api_budget = ApiBudget(budget or Limits(), price)
    retry = {"backoff_s": 0.001, "timeout_s": 5.0}
    retry |= {name: options.pop(name) for name in ("backoff_s", "timeout_s", "attempts") if name in options}
    options = {"key_variable": VARIABLE, "retry": Retry(**retry), **options}
    return OpenAIClient(getattr(server, "url", server), "m", cache=cache, api_budget=api_budget, **options)


def script(server: Any, *replies: Any) -> None:
    """Give these replies in order; the last one again and again."""
    server.answer = lambda request, number: replies[min(number, len(replies) - 1)]


def test_request_is_what_the_interface_asks_for(
    chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f" {KEY}\n")
    chat = client(chat_server, tmp_path, extra={"temperature": 0, "seed": None})
    assert chat.ask(HELLO, str) == "yes"
    assert chat_server.requests == [{"model": "m", "messages": HELLO, "temperature": 0}]
    assert chat_server.headers[0]["path"] == "/v1/chat/completions"
    assert chat_server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert str(chat.api_budget) == "1 requests, 100 tokens in, 10 out"


def test_no_key_no_header(chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)  # those of another server
    client(chat_server, tmp_path).ask(HELLO, str)
    assert "authorization" not in chat_server.headers[0]
    assert KEY not in str(chat_server.headers[0])


def test_reply_is_paid_for_once(chat_server: Any, tmp_path: Path) -> None:
    chat_server.answer = lambda request, number: f"answer {number}"
    first = client(chat_server, tmp_path)
    assert [first.ask(HELLO, str) for _ in range(3)] == ["answer 0"] * 3
    assert client(chat_server, tmp_path).ask(HELLO, str) == "answer 0"
    assert client(chat_server, tmp_path, extra={"seed": 1}).ask(HELLO, str) == "answer 1"
    kept = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines()]
    assert [k["reply"] for k in kept] == ["answer 0", "answer 1"]
    assert KEY not in (tmp_path / "replies.jsonl").read_text()


def failures(reply: Any) -> list[Any]:
    return [
        reply(status=429),
        reply(status=500, body=b"<html>oops</html>"),
        reply(status=503, body=b""),
        reply(status=529),
        reply(body=b"{not json"),
        reply(body=b'{"choices": []}'),
        reply(body=b'["choices"]'),
        reply(body=b'{"choices": [{"message": null}]}'),
        reply(text=None),
        reply(text="", finish_reason="length"),
        reply(hangs_up=True),
        reply(body=b"x" * (5 << 20)),
        reply(body=b"[" * 100_000),
    ]


@pytest.mark.parametrize("number", range(13))
def test_passing_failures_are_tried_again(
    chat_server: Any, reply_kind: Any, tmp_path: Path, number: int
) -> None:
    script(chat_server, *[failures(reply_kind)[number]] * 2, reply_kind("at last"))
    chat = client(chat_server, tmp_path)
    assert chat.ask(HELLO, str) == "at last"
    assert (chat.api_budget.requests, chat.api_budget.repeats) == (3, 2)
    assert len(chat_server.requests) == 3


def test_lasting_failure_ends_in_one_line(chat_server: Any, reply_kind: Any, tmp_path: Path) -> None:
    script(chat_server, reply_kind(status=429, body=b'{"error": {"message": "slow\\ndown"}}'))
    with pytest.raises(LlmError, match=r"failed 4 times, last with status 429 \(slow down\)") as caught:
        client(chat_server, tmp_path, attempts=4).ask(HELLO, str)
    assert "\n" not in str(caught.value) and chat_server.url in str(caught.value)
    assert len(chat_server.requests) == 4


def test_reply_that_cannot_be_read_is_not_kept(chat_server: Any, tmp_path: Path) -> None:
    script(chat_server, "seven", "7")
    chat = client(chat_server, tmp_path)
    assert chat.ask(HELLO, int) == 7
    assert client(chat_server, tmp_path).ask(HELLO, int) == 7
    assert len(chat_server.requests) == 2
    assert chat.api_budget.prompt_tokens == 200  # both were paid for


def test_kept_reply_that_can_no_longer_be_read_is_asked_anew(chat_server: Any, tmp_path: Path) -> None:
    script(chat_server, "seven", "7")
    client(chat_server, tmp_path).ask(HELLO, str)
    assert client(chat_server, tmp_path).ask(HELLO, int) == 7
    assert client(chat_server, tmp_path).ask(HELLO, int) == 7
    assert len(chat_server.requests) == 2


@pytest.mark.parametrize("pieces", [1, 20])
def test_slow_reply_is_given_up(chat_server: Any, reply_kind: Any, tmp_path: Path, pieces: int) -> None:
    """Also one that never stops sending: the limit is for the whole reply."""
    slow = reply_kind(delay_s=4.0 / pieces, pieces=pieces)
    script(chat_server, slow, reply_kind("fast"))
    chat = client(chat_server, tmp_path, timeout_s=0.5)
    started = time.monotonic()
    assert chat.ask(HELLO, str) == "fast"
    assert 0.5 <= time.monotonic() - started < 4
    assert chat.api_budget.repeats >= 1


def test_pause_doubles_and_obeys_the_server(chat_server: Any, reply_kind: Any, tmp_path: Path) -> None:
    limited = reply_kind(status=429, headers={"Retry-After": "0.2"})
    script(chat_server, *[reply_kind(status=500)] * 3, limited, reply_kind())
    notices: list[str] = []
    client(chat_server, tmp_path, backoff_s=0.01, notice=notices.append).ask(HELLO, str)
    pauses = [float(re.search(r"again in ([\d.]+) s", line)[1]) for line in notices]  # type: ignore[index]
    assert all(
        0.5 * 0.01 * 2**i - 0.051 <= p <= 0.01 * 2**i + 0.051 for i, p in enumerate(pauses[:3])
    )  # written to a tenth
    assert pauses[3] == 0.2


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"http://{'a' * 70}.localhost"):
        with pytest.raises(LlmError, match="failed 2 times, last with no reply") as caught:
            client(url, tmp_path, attempts=2).ask(HELLO, str)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("status", "advice"), [(401, VARIABLE), (403, VARIABLE), (404, "model's name")])
def test_refusal_is_not_repeated(
    chat_server: Any, reply_kind: Any, tmp_path: Path, status: int, advice: str
) -> None:
    script(chat_server, reply_kind(status=status, body=b'{"error": "no such thing"}'))
    with pytest.raises(LlmError, match=rf"status {status} \(no such thing\); .*{advice}"):
        client(chat_server, tmp_path).ask(HELLO, str)
    assert len(chat_server.requests) == 1


def test_key_is_never_shown(
    chat_server: Any, reply_kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    echo = json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode()
    notices: list[str] = []
    for status in (401, 429):
        script(chat_server, reply_kind(status=status, body=echo))
        with pytest.raises(LlmError, match=r"wrong key \*\*\*") as caught:
            client(chat_server, tmp_path, attempts=2, notice=notices.append).ask(HELLO, str)
        assert KEY not in str(caught.value)
    assert len(notices) == 1 and KEY not in notices[0]


def test_redirect_is_not_followed(chat_server: Any, reply_kind: Any, tmp_path: Path) -> None:
    """The key would go to another server."""
    script(chat_server, reply_kind(status=307, headers={"Location": chat_server.url + "/elsewhere"}))
    with pytest.raises(LlmError, match="status 307"):
        client(chat_server, tmp_path).ask(HELLO, str)
    assert len(chat_server.requests) == 1


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_impossible_key_is_refused_unseen(
    chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(VARIABLE, key)
    with pytest.raises(ConfigError, match=VARIABLE) as caught:
        client(chat_server, tmp_path)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8000", "expected the address"),
        ("ftp://host/v1", "expected the address"),
        ("http://", "expected the address"),
        ("https://user:secret@host/v1", "no user, password"),
        ("https://user:12/secret@host/v1", "no user, password"),
        ("https://user:se/secret@host/v1", "no user, password"),
        ("https://host/v1?key=secret", "no user, password"),
        ("ftp://host/v1?key=secret", "no user, password"),
        ("http://host:99999/v1", "expected the address"),
        ("http://host:port/v1", "expected the address"),
    ],
)
def test_bad_address(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        client(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_whole_address_is_fine_too(chat_server: Any, tmp_path: Path) -> None:
    client(chat_server.url + "/chat/completions/", tmp_path).ask(HELLO, str)
    assert chat_server.headers[0]["path"] == "/v1/chat/completions"


def test_proxy_of_the_environment_is_not_for_this_machine(
    chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert client(chat_server, tmp_path).ask(HELLO, str) == "yes"


def test_budget_of_requests_is_never_exceeded(chat_server: Any, reply_kind: Any, tmp_path: Path) -> None:
    chat_server.answer = lambda request, number: reply_kind(status=500) if number % 3 == 0 else "yes"
    chat = client(chat_server, tmp_path, Limits(requests=10))

    def ask(number: int) -> bool:
        try:
            return chat.ask([{"role": "user", "content": str(number)}], str) == "yes"
        except BudgetExceeded as error:
            assert "budget of 10 requests" in str(error)
            return False

    with ThreadPoolExecutor(4) as pool:
        answered = sum(pool.map(ask, range(20)))
    assert len(chat_server.requests) == 10
    assert answered == len(chat.cache) == 6


def test_budget_of_tokens(chat_server: Any, reply_kind: Any, tmp_path: Path) -> None:
    chat = client(chat_server, tmp_path, Limits(None, 200), Price(1.0, 10.0))
    chat.ask(HELLO, str)
    chat.ask([*HELLO, *HELLO], str)
    with pytest.raises(BudgetExceeded, match="200 tokens"):
        chat.ask([*HELLO, *HELLO, *HELLO], str)
    assert str(chat.api_budget) == "2 requests, 200 tokens in, 20 out, cost 0.0004"
    script(chat_server, reply_kind(counts_tokens=False))
    with pytest.raises(ConfigError, match="does not count tokens"):
        client(chat_server, tmp_path / "b", Limits(None, 200)).ask(HELLO, str)
    loose = client(chat_server, tmp_path / "c")
    loose.ask(HELLO, str)
    assert "(1 replies uncounted)" in str(loose.api_budget)


def test_stop_ends_a_pause(chat_server: Any, reply_kind: Any, tmp_path: Path) -> None:
    script(chat_server, reply_kind(status=500))
    chat = client(chat_server, tmp_path, backoff_s=60.0, notice=lambda line: timer.start())
    timer = threading.Timer(0.05, chat.stop)
    started = time.monotonic()
    with pytest.raises(LlmError, match="stopped"):
        chat.ask(HELLO, str)
    assert time.monotonic() - started < 5


def test_error_says_how_to_go_on() -> None:
    error = resumable(BudgetExceeded("the budget is spent"), "3 of 9 answers are kept in x")
    assert isinstance(error, BudgetExceeded)
    assert str(error).startswith("the budget is spent; 3 of 9 answers are kept in x; run the same command")
    assert "larger budget" in str(error) and "larger" not in str(resumable(LlmError("down"), "kept"))


def test_budget_and_price_as_text() -> None:
    assert Limits.parse("500") == Limits.parse(" requests = 500 ") == Limits(500, None)
    assert Limits.parse("tokens=9") == Limits(None, 9)
    assert Limits.parse("tokens=9,requests=0") == Limits(0, 9)
    assert Price.parse("0.15,2") == Price(0.15, 2.0)
    for text in ("", "x", "-1", "1,2", "requests=1,requests=2", "dollars=3", "1.5", "\u0663"):
        with pytest.raises(ConfigError, match="expected such as"):
            Limits.parse(text)
    for text in ("", "1", "a,b", "1,2,3", "-1,2"):
        with pytest.raises(ConfigError, match="million"):
            Price.parse(text)


def test_extra_is_an_object() -> None:
    assert parse_extra('{"temperature": null}') == {"temperature": None}
    for text in ("", "[]", "temperature=1", "{"):
        with pytest.raises(ConfigError, match="JSON object"):
            parse_extra(text)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_content_key_does_not_know_order(request: dict[str, Any]) -> None:
    assert content_key(request) == content_key(dict(reversed(request.items())))
    assert content_key({**request, "more": 1}) != content_key({**request, "more": 2})
