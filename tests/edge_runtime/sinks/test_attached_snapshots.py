"""Webhooks with snapshots, against a real HTTP server, and what happens when there is no snapshot."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_runtime.atomic_write import whole_file
from edge_runtime.sinks import SinkContext
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import RetryableError
from edge_runtime.sinks.snapshots import WAIT_S
from edge_runtime.sinks.webhook import Webhook, WebhookConfig

ROOT = Path(__file__).resolve().parents[3]
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JPEG = b"\xff\xd8\r\n--picture\x00\r\n\xff\xd9" * 1000


class Server:
    """Keeps what is posted; ``answers`` are given first, 204 after them."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posts.append((dict(self.headers), body))
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/in"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def event(number: int, snapshot: str | None = None) -> dict:
    kept = {} if snapshot is None else {"evidence": {"snapshot": snapshot}}
    return {"id": f"id{number}", "type": "response", "stream": "door", "text": "Tür", **kept}


def record(number: int, snapshot: str | None = None, written: float | None = None) -> OutboxRecord:
    body = json.dumps(event(number, snapshot)).encode()
    return OutboxRecord(
        number, f"id{number}", "door", "response", body, time.time() if written is None else written
    )


def hook(url: str, folder) -> Webhook:
    return Webhook(WebhookConfig("alerts", attach_snapshot=True), url, secret=KEY, evidence=folder)


def parts(headers: dict[str, str], body: bytes) -> dict[str | None, bytes]:
    """The parts by name, read by Python's own parser; the signature is checked by the way."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(KEY.removeprefix("whsec_")), content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    if headers["Content-Type"].startswith("application/json"):
        return {None: body}
    message = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    assert not message.defects
    found = {}
    for part in message.get_payload():
        found[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True)
    return found


def test_a_snapshot_that_is_still_written_is_awaited_and_attached(server, tmp_path):
    config = WebhookConfig("alerts", url=server.url, attach_snapshot=True)
    sink = config.open(SinkContext(tmp_path / "box", tmp_path))
    started = time.monotonic()
    assert sink.write(event(1, "a.jpg"))
    assert time.monotonic() - started < WAIT_S / 2  # the writer of events does not wait
    time.sleep(0.3)
    assert not server.posts
    with whole_file(tmp_path / "a.jpg") as path:
        path.write_bytes(JPEG)
    assert sink.close() == 0
    ((headers, body),) = server.posts
    message = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    assert [part.get_content_type() for part in message.get_payload()] == ["application/json", "image/jpeg"]


def test_the_parts_are_the_event_and_the_picture_and_both_are_signed(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    sent = record(1, "a.jpg")
    hook(server.url, tmp_path).send(sent)
    assert parts(*server.posts[0]) == {"event": sent.body, "snapshot": JPEG}


@pytest.mark.parametrize("name", [None, "none.jpg", "../a.jpg", "/etc/hostname", ".", 7])
def test_without_a_snapshot_the_event_goes_alone(server, tmp_path, name):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "kept").mkdir()
    sent = record(1, name, written=time.time() - WAIT_S)
    hook(server.url, tmp_path / "kept").send(sent)
    assert parts(*server.posts[0]) == {None: sent.body}


def test_one_that_never_appears_is_awaited_for_a_moment_after_its_event(server, tmp_path):
    started = time.monotonic()
    hook(server.url, tmp_path).send(record(1, "none.jpg", written=time.time() - WAIT_S + 0.5))
    assert 0.3 < time.monotonic() - started < WAIT_S
    started = time.monotonic()
    for number in range(2, 22):  # a backlog does not wait for what is gone
        hook(server.url, tmp_path).send(record(number, "none.jpg", written=1.0))
    assert time.monotonic() - started < WAIT_S and len(server.posts) == 21


@pytest.mark.parametrize("status", [413, 415])
def test_a_receiver_that_takes_no_picture_gets_the_event(server, tmp_path, status):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    server.answers = [status]
    sent = record(1, "a.jpg")
    hook(server.url, tmp_path).send(sent)
    assert [parts(*post) for post in server.posts] == [
        {"event": sent.body, "snapshot": JPEG},
        {None: sent.body},
    ]


def test_a_busy_receiver_gets_event_and_picture_again(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    server.answers = [503]
    alerts = hook(server.url, tmp_path)
    with pytest.raises(RetryableError, match="503"):
        alerts.send(record(1, "a.jpg"))
    alerts.send(record(1, "a.jpg"))
    assert [set(parts(*post)) for post in server.posts] == [{"event", "snapshot"}] * 2


def test_after_a_server_hung_up_on_the_picture_the_event_goes_alone(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG * 100)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def serve() -> None:
            rude.accept()[0].close()
            connection, _ = rude.accept()
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        alerts = hook(f"http://127.0.0.1:{rude.getsockname()[1]}", tmp_path)
        with pytest.raises(RetryableError):
            alerts.send(record(1, "a.jpg"))
        alerts.send(record(1, "a.jpg"))
    assert b"application/json" in received[0] and b"multipart" not in received[0]


def test_without_evidence_one_line_says_that_nothing_is_attached(tmp_path, logged):
    WebhookConfig("alerts", url="http://127.0.0.1:9/", attach_snapshot=True).open(
        SinkContext(tmp_path)
    ).close()
    assert [line for line in logged if "attach_snapshot has no effect" in line]


@pytest.mark.gst
def test_edge_run_posts_the_snapshots_that_it_keeps(server, tmp_path):
    pytest.importorskip("gi")
    (tmp_path / "edge-run.toml").write_text(
        f'[runtime]\noutbox = "box"\n[evidence]\nfolder = "kept"\nclip = "off"\n'
        f'[[webhook]]\nname = "alerts"\nurl = "{server.url}"\n'
        f'secret_env = "KEY"\nevents = ["response"]\nattach_snapshot = true\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "sample", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KEY": KEY},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    responses = [event for event in printed if event["type"] == "response"]
    assert responses and len(server.posts) == len(responses)
    for post, event in zip(server.posts, responses, strict=True):
        found = parts(*post)
        assert json.loads(found["event"]) == event
        assert found["snapshot"] == (tmp_path / "kept" / event["evidence"]["snapshot"]).read_bytes()
