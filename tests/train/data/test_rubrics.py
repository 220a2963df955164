"""Rubrics from a real server on the loopback interface: what is asked, kept, refused, and how it fails."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.metric.annotations import read_annotations
from benchmarks.metric.llm.budget import ApiBudget, BudgetExceeded, Limits
from benchmarks.metric.llm.client import LlmError, OpenAIClient, Retry
from benchmarks.metric.llm.reply_cache import ReplyCache
from edge_runtime.errors import EdgeError
from train.commands.rubrics import KEY_VARIABLE, rubrics
from train.data.rubric_writer import read_rubric, write_rubrics

_spec = importlib.util.spec_from_file_location(
    "chat_server_of_the_benchmarks", Path(__file__).parents[2] / "benchmarks" / "conftest.py"
)
_servers = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _servers
_spec.loader.exec_module(_servers)
chat_server = _servers.chat_server
Reply = _servers.Reply

DIMENSIONS = ("granularity", "granularity", "coherence", "coherence", "coverage", "coverage")


def entries(count=6, dimensions=DIMENSIONS):
    return [{"dimension": dimensions[i % 6], "rubric": f"The cat is named {i}."} for i in range(count)]


def reply(count=6, **keys):
    return json.dumps({"rubric": entries(count, **keys)})


@pytest.fixture
def questions(tmp_path):
    lines = []
    for i in range(5):
        answers = [{"start": 1.0, "end": 3.0, "text": f"Cat {i} enters."}]
        query = {"time": 0.5, "text": f"What does cat {i} do?"}
        record = {"id": f"q{i}", "video": "a.mp4", "duration": 9.0, "task": "EU"}
        lines.append({**record, "query": query, "answers": answers, "mine": i})
    lines[1]["rubric"] = [{"rubric_id": 0, "dimension": "coverage", "rubric": "Kept."}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path / "a.jsonl"


@pytest.fixture
def run(chat_server, questions, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")

    def invoke(*options):
        command = [str(questions), "--out", str(tmp_path / "out.jsonl"), "--endpoint", chat_server.url]
        return CliRunner().invoke(rubrics, [*command, "--model", "writer", *options])

    return invoke


def client_of(chat_server, tmp_path, budget=100):
    return OpenAIClient(
        chat_server.url,
        "writer",
        cache=ReplyCache(tmp_path / "replies.jsonl"),
        api_budget=ApiBudget(Limits(budget)),
        key_variable=KEY_VARIABLE,
        retry=Retry(attempts=2, backoff_s=0.001),
    )


def test_rubrics_are_written_for_questions_without_one(run, chat_server, tmp_path):
    chat_server.answer = lambda request, number: reply(7)
    result = run("--price", "1,2")
    assert result.exit_code == 0, result.output
    assert len(chat_server.requests) == 4 and "4 rubrics written, 1 kept" in result.stdout
    assert "4 requests, 400 tokens in, 40 out, cost 0.0005" in result.stderr
    found = {item.id: item for item in read_annotations(tmp_path / "out.jsonl")}
    assert list(found) == [f"q{i}" for i in range(5)] and found["q3"].extra == {"mine": 3}
    assert [entry["rubric_id"] for entry in found["q0"].rubric] == list(range(7))
    assert found["q1"].rubric[0]["rubric"] == "Kept."


def test_what_the_server_is_asked(run, chat_server):
    chat_server.answer = lambda request, number: reply()
    run("--workers", "1", "--extra", '{"temperature": null}')
    request = chat_server.requests[0]
    material = json.loads(request["messages"][1]["content"])
    assert material == {
        "task": "event understanding",
        "question": "What does cat 0 do?",
        "asked_at": 0.5,
        "true_answers": [{"from": 1.0, "to": 3.0, "answer": "Cat 0 enters."}],
    }
    assert request["model"] == "writer" and "temperature" not in request
    assert chat_server.headers[0]["authorization"] == "Bearer sk-secret"


def test_a_run_whose_budget_is_spent_goes_on_without_paying_twice(run, chat_server, tmp_path):
    chat_server.answer = lambda request, number: reply()
    first = run("--budget", "2", "--workers", "1")
    assert isinstance(first.exception, BudgetExceeded) and "run the same command again" in str(
        first.exception
    )
    assert "2 of 4 rubrics" in str(first.exception) and not (tmp_path / "out.jsonl").exists()
    assert run().exit_code == 0 and len(chat_server.requests) == 4
    assert all(len(item.rubric) in (1, 6) for item in read_annotations(tmp_path / "out.jsonl"))


def test_a_wrong_key_is_told_without_the_key(run, chat_server):
    chat_server.answer = lambda request, number: Reply(status=401, body=b'{"error": "no sk-secret here"}')
    result = run()
    assert isinstance(result.exception, EdgeError) and KEY_VARIABLE in str(result.exception)
    assert "sk-secret" not in str(result.exception) + result.output


def test_a_refused_reply_is_asked_for_again(chat_server, questions, tmp_path):
    replies = ["I can't.", reply(), *[reply(6)] * 4]
    chat_server.answer = lambda request, number: replies[number]
    client = client_of(chat_server, tmp_path)
    written = write_rubrics(read_annotations(questions)[:1], client, workers=1)
    assert len(written["q0"]) == 6 and len(chat_server.requests) == 2


def test_replies_that_stay_bad_end_with_what_is_missing(chat_server, questions, tmp_path):
    chat_server.answer = lambda request, number: reply(dimensions=("coverage",) * 6)
    with pytest.raises(LlmError, match="no checkpoint for granularity and coherence"):
        write_rubrics(read_annotations(questions)[:1], client_of(chat_server, tmp_path), workers=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "without 'rubric'"),
        ('{"rubric": {}}', "without 'rubric' as a list"),
        ("six of them", "no JSON object"),
        (reply(5), "5 checkpoints, expected 6 to 10"),
        (reply(11), "11 checkpoints"),
        (
            json.dumps({"rubric": [*entries(6), {"dimension": "style", "rubric": "x"}]}),
            "checkpoint 6 has no 'dim",
        ),
        (json.dumps({"rubric": [*entries(6), {"dimension": "coverage"}]}), "checkpoint 6 has no text"),
        (json.dumps({"rubric": [*entries(6), "x"]}), "checkpoint 6"),
        (json.dumps({"rubric": [*entries(6), entries(1)[0]]}), "comes twice"),
    ],
)
def test_a_bad_reply_says_what_is_missing(text, words):
    with pytest.raises(ValueError, match=words):
        read_rubric(text)


def test_a_fenced_reply_is_read():
    assert len(read_rubric(f"```json\n{reply(10)}\n```")) == 10
