"""`edge-run` with a server in place of a bundle: real processes, a real clip, a real server on loopback."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chat_server import ChatServer, Reply, chat_server
from tests.edge_runtime.app.process import CLIP_S, events, fails

__all__ = ["chat_server"]
pytestmark = pytest.mark.gst
KEY = "sk-of-the-endpoint"
ASK = ("--ask", "Tell me what happens.")


def test_a_recording_loses_no_timestep(edge_run: Any, chat_server: ChatServer, clip: Any) -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        if number in (2, 3):
            return Reply(status=503)
        return Reply("Wait" if number % 2 else f"It is step {number}.")

    chat_server.answer = answer
    done = edge_run(
        *(clip, *ASK, "--endpoint", chat_server.url, "--model", "vlm", "--json"),
        bundle=False,
        EDGE_RUN_ENDPOINT_KEY=KEY,
    )
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    said = [(e["time"], e["text"]) for e in events(done.stdout) if e["type"] == "response"]
    assert said == [
        (1.0, "It is step 0."),
        (3.0, "It is step 4."),
        (5.0, "It is step 6."),
        (7.0, "It is step 8."),
    ]
    states = [e["state"] for e in events(done.stdout) if e["type"] == "model"]
    assert states == ["unavailable", "available"]
    assert len(chat_server.requests) == CLIP_S + 2
    assert {headers["authorization"] for headers in chat_server.headers} == {f"Bearer {KEY}"}
    *log, summary = done.stderr.splitlines()
    assert len(log) == 2 and "status 503" in log[0] and "answers again" in log[1]
    figures = json.loads(summary)
    assert figures["bundle"] == f"vlm at {chat_server.url}"
    assert figures["endpoint"] == {
        "requests": CLIP_S + 2,
        "failed": 2,
        "dropped": 0,
        "limited": 0,
        "tokens_in": 100 * CLIP_S,
        "tokens_out": 10 * CLIP_S,
    }


def test_a_live_camera_gets_answers_while_the_next_frame_is_far(
    edge_run: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda request, number: Reply(f"Answer {number}.", delay_s=0.3)
    done = edge_run(
        *("test:", *ASK, "--endpoint", chat_server.url, "--model", "vlm", "--duration", "4", "--fps", "2"),
        bundle=False,
    )
    assert done.returncode == 0, done.stderr
    found = events(done.stdout)
    said = [event for event in found if event["type"] == "response"]
    assert said and all(event["score"] == 1.0 for event in said)
    stats = [event for event in found if event["type"] == "stats"][-1]
    if "endpoint" in stats:  # of a live source
        assert stats["endpoint"]["requests"] == len(chat_server.requests)
    assert "to the endpoint, 0 failed" in done.stderr


def test_a_refusal_ends_in_one_line(edge_run: Any, chat_server: ChatServer, clip: Any) -> None:
    chat_server.answer = lambda request, number: Reply(
        status=404, body=b'{"error": {"message": "model nope not found"}}'
    )
    done = edge_run(clip, *ASK, "--endpoint", chat_server.url, "--model", "nope", bundle=False)
    assert done.returncode == 6
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("edge-run: error: ")]
    assert "status 404 (model nope not found); check the address, the model's name" in line


def test_ctrl_c_ends_a_recording_that_waits(edge_run: Any, clip: Any, tmp_path: Any) -> None:
    """A server that is not there is waited for; --duration counts video, so a signal has to end it."""
    import signal
    import subprocess

    from tests.edge_runtime.app.process import EDGE_RUN, environment

    command = [*EDGE_RUN, str(clip), *ASK, "--endpoint", "http://127.0.0.1:9/v1", "--model", "vlm"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "retrying, frames are dropped" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130, rest


BAD = [
    (("--endpoint", "ftp://127.0.0.1/v1", "--model", "m"), "expected the address of a server such as"),
    (("--endpoint", "127.0.0.1:8080/v1", "--model", "m"), "expected the address of a server such as"),
    (
        ("--endpoint", "http://127.0.0.1:8080", "--model", "m"),
        "most servers answer at http://127.0.0.1:8080/v1",
    ),
    (("--endpoint", "http://me:hunter2@127.0.0.1/v1", "--model", "m"), "must hold no user, password"),
    (("--endpoint", "http://127.0.0.1:8080/v1"), "--endpoint needs --model NAME"),
    (("--model", "m"), "--model needs --endpoint URL"),
    (("--endpoint", "http://127.0.0.1:8080/v1", "--model", " "), "--model is empty"),
    (
        ("--endpoint", "http://127.0.0.1/v1", "--model", "m", "--bundle", "nano"),
        "give --bundle or --endpoint",
    ),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_options_that_do_not_fit(edge_run: Any, options: tuple[str, ...], words: str) -> None:
    assert words in fails(edge_run("test:", *ASK, *options, bundle=False), 2)


def test_a_key_does_not_travel_in_the_clear(edge_run: Any) -> None:
    address = ("--endpoint", "http://api.example.com/v1", "--model", "m")
    done = edge_run("test:", *ASK, *address, bundle=False, EDGE_RUN_ENDPOINT_KEY=KEY)
    line = fails(done, 2)
    assert "the key would be sent unencrypted; use https" in line and KEY not in line


CONFIG = """\
[endpoint]
url = "{url}"
model = "vlm"
key_file = "key"

[[camera]]
name = "hall"
source = "test:"

[[camera.ask]]
text = "What happens?"
"""


def test_the_configuration_is_checked_and_tried(
    edge_run: Any, chat_server: ChatServer, tmp_path: Any
) -> None:
    chat_server.models = ["other"]
    (tmp_path / "edge-run.toml").write_text(CONFIG.format(url=chat_server.url))
    done = edge_run("check", bundle=False)
    assert done.returncode == 2 and "endpoint.key_file: the file" in done.stdout
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    done = edge_run("check", "--connect", bundle=False)
    assert done.returncode == 0, done.stdout
    assert "endpoint.model: endpoint" in done.stdout and "does not list model vlm" in done.stdout
    assert "vlm answered about a grey frame" in done.stdout
    assert chat_server.headers[-1]["authorization"] == f"Bearer {KEY}"
    done = edge_run("doctor", "--json", bundle=False)
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"] if one["check"] != "network"}
    assert "model" not in found and "answered about one grey frame" in found["endpoint"]["detail"]
    chat_server.answer = lambda request, number: Reply(status=500)
    done = edge_run("check", "--connect", bundle=False)
    assert done.returncode == 6 and "status 500" in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_the_file_s_key_goes_to_the_file_s_server_alone(
    edge_run: Any, chat_server: ChatServer, tmp_path: Any, clip: Any
) -> None:
    (tmp_path / "edge-run.toml").write_text(CONFIG.format(url="https://elsewhere.example/v1"))
    (tmp_path / "key").write_text(KEY)
    done = edge_run(clip, *ASK, "--endpoint", chat_server.url, bundle=False)
    assert done.returncode == 0, done.stderr
    assert not any("authorization" in headers for headers in chat_server.headers)


def test_mistakes_of_the_table(edge_run: Any, tmp_path: Any) -> None:
    (tmp_path / "edge-run.toml").write_text(
        "[endpoint]\nurl = 'http://127.0.0.1:1'\nkey = 'k'\nframes = 0\nrequest = { messages = 1 }\nfps = 1"
    )
    done = edge_run("check", bundle=False)
    assert done.returncode == 2
    for words in (
        "url: http://127.0.0.1:1: the path is missing",
        "key: secrets do not belong",
        "frames: expected",
        "request: holds messages",
        "fps: unknown key",
        "model: is missing",
    ):
        assert words in done.stdout, words
