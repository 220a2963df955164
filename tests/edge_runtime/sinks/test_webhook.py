"""The webhook against real HTTP and HTTPS servers on loopback that fail, go away and come back."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.http_receiver import check_url, retry_after_s
from edge_runtime.sinks.outbox import Outbox, OutboxRecord
from edge_runtime.sinks.remote import Backoff, PermanentError, RemoteSink, RetryableError
from edge_runtime.sinks.webhook import Webhook, WebhookConfig, sign, signing_key

RECORD = OutboxRecord(1, "id1", "door", "response", b'{"id": "id1"}')


class Server:
    """Keeps what is posted; ``answers`` are given first, 204 after them."""

    def __init__(self, port: int = 0, certificate=None) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = outer.answers.pop(0) if outer.answers else (204, {})
                if status == 204:
                    outer.posts.append((self.path, dict(self.headers), body))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["id"] for _, _, body in self.posts]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hook(url: str, *, secret: str | None = None, now=time.time, **keys) -> Webhook:
    return Webhook(WebhookConfig("alerts", **keys), url, secret=secret, now=now)


def test_an_event_is_posted_and_signed(server):
    hook(f"http://127.0.0.1:{server.port}/in?to=me", secret=KEY, now=lambda: 1234.5).send(RECORD)
    path, headers, body = server.posts[0]
    assert path == "/in?to=me" and body == RECORD.body
    assert headers["webhook-id"] == "id1" and headers["webhook-timestamp"] == "1234"
    key = base64.b64decode(KEY.removeprefix("whsec_")).hex()
    openssl = subprocess.run(
        ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"],
        input=b"id1.1234." + body,
        capture_output=True,
        check=True,
    )
    assert headers["webhook-signature"] == "v1," + base64.b64encode(openssl.stdout).decode()
    assert sign(b"other", "id1", "1234", body) != headers["webhook-signature"]


def test_the_signature_is_that_of_standard_webhooks():
    """The example of the specification's own libraries."""
    key, id, body = signing_key(KEY), "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    assert sign(key, id, "1614265330", body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["s3cret", KEY.removeprefix("whsec_"), "whsec_s3cret", "whsec_c2hvcnQ="])
def test_a_signing_key_that_cannot_be_used_is_told_without_repeating_it(secret):
    with pytest.raises(ConfigError, match="webhook alerts: expected whsec_") as caught:
        hook("https://h/", secret=secret)
    assert secret not in str(caught.value)


class AnswersInPieces:
    """Answers each POST with these bytes, whatever they are."""

    def __init__(self, answer: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, self._socket:
            connection.recv(65536)
            connection.sendall(self._answer)


EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("before", [EARLY_HINTS, CONTINUE + EARLY_HINTS, EARLY_HINTS * 3])
def test_informational_answers_are_read_over(before):
    ok = AnswersInPieces(before + b"HTTP/1.1 204 No Content\r\n\r\n")
    hook(f"http://127.0.0.1:{ok.port}").send(RECORD)
    no = AnswersInPieces(before + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(PermanentError, match="404"):
        hook(f"http://127.0.0.1:{no.port}").send(RECORD)


@pytest.mark.parametrize("answer", [EARLY_HINTS, EARLY_HINTS * 100, CONTINUE * 100])
def test_informational_answers_alone_are_tried_again(answer):
    server = AnswersInPieces(answer)
    with pytest.raises(RetryableError):
        hook(f"http://127.0.0.1:{server.port}").send(RECORD)


def test_without_a_secret_there_is_no_signature(server):
    hook(f"http://127.0.0.1:{server.port}").send(RECORD)
    assert server.posts[0][0] == "/" and "webhook-signature" not in server.posts[0][1]


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_what_the_receiver_does_not_want_is_refused(server, status):
    server.answers = [(status, {})]
    with pytest.raises(PermanentError, match=str(status)):
        hook(f"http://127.0.0.1:{server.port}").send(RECORD)


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503])
def test_what_may_work_later_is_tried_again(server, status):
    server.answers = [(status, {"Retry-After": "17", "Location": "http://127.0.0.1/"})]
    with pytest.raises(RetryableError, match=str(status)) as caught:
        hook(f"http://127.0.0.1:{server.port}").send(RECORD)
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("12", 12),
        ("-3", 0),
        ("1e9", 3600),
        ("nan", 0),
        ("soon", 0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after_s(value, now=10.0) == seconds


def test_a_receiver_that_accepts_and_hangs_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        alerts = hook(f"http://127.0.0.1:{silent.getsockname()[1]}", read_timeout_s=0.2)
        started = time.monotonic()
        with pytest.raises(RetryableError, match="in time"):
            alerts.send(RECORD)
        assert time.monotonic() - started < 2


def test_one_that_is_not_there_or_speaks_something_else():
    with pytest.raises(RetryableError, match="refused"):
        hook(f"http://127.0.0.1:{free_port()}").send(RECORD)
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def answer() -> None:
            connection = odd.accept()[0]
            connection.recv(9999)
            connection.sendall(b"220 mail\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(RetryableError, match="does not speak HTTP"):
            hook(f"http://127.0.0.1:{odd.getsockname()[1]}").send(RECORD)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_is_verified(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    server = Server(certificate=(certificate, key))
    try:
        with pytest.raises(RetryableError, match="certificate is not accepted"):
            hook(f"https://localhost:{server.port}").send(RECORD)
        with pytest.raises(
            RetryableError, match="certificate is not accepted"
        ):  # right authority, wrong name
            hook(f"https://127.0.0.1:{server.port}", ca_file=certificate).send(RECORD)
        assert not server.posts
        hook(f"https://localhost:{server.port}", ca_file=certificate).send(RECORD)
        assert len(server.posts) == 1
    finally:
        server.close()
    with pytest.raises(ConfigError, match="ca_file"):
        hook("https://localhost", ca_file=tmp_path / "none.pem")


@pytest.mark.parametrize(
    "url",
    ["ftp://h/t0ken", "https:///t0ken", "https://u:t0ken@h/", "https://h:99999/t0ken", "http://h/t0 ken\r\n"],
)
def test_an_address_that_cannot_be_used_is_told_without_repeating_it(url):
    problem = check_url(url)
    assert problem and "t0" not in problem
    with pytest.raises(ConfigError, match="webhook alerts: "):
        hook(url)


def test_no_message_holds_the_path_or_the_secret(tmp_path, server, logged):
    server.answers = [(500, {}), (404, {})]
    alerts = hook(f"http://127.0.0.1:{server.port}/t0ken?key=t0ken", secret=KEY)
    sink = RemoteSink(Outbox(tmp_path / "b"), alerts, ["response"], backoff=Backoff(0.05, 0.05))
    for number in range(2):
        sink.write({"type": "response", "id": f"id{number}", "stream": "door"})
    wait_for(lambda: sink.depth == 0)
    sink.close()
    assert len(logged) >= 2 and "127.0.0.1" in logged[0]
    assert not any("t0ken" in line or KEY[6:] in line for line in [*logged, sink.name])


def wait_for(ready, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_receiver_that_goes_down_and_comes_back_gets_everything_in_order(tmp_path, logged):
    server = Server()
    port = server.port
    sink = RemoteSink(
        Outbox(tmp_path / "box.sqlite"),
        hook(f"http://127.0.0.1:{port}"),
        ["response"],
        backoff=Backoff(0.05, 0.2),
    )
    write = lambda n: sink.write({"type": "response", "id": f"id{n}", "stream": "door"})  # noqa: E731
    for number in range(10):
        assert write(number)
    wait_for(lambda: len(server.posts) == 10)
    server.close()
    for number in range(10, 40):
        assert write(number)
    wait_for(lambda: sink.sender.failing)
    assert sink.depth == 30
    back = Server(port)
    wait_for(lambda: len(back.posts) >= 30)
    assert sink.close() == 0
    back.close()
    assert server.ids + back.ids == [f"id{n}" for n in range(40)]
    assert len(logged) == 2


KILLED = """
import sys, time
from edge_runtime.sinks.outbox import Outbox
from edge_runtime.sinks.remote import Backoff, RemoteSink
from edge_runtime.sinks.webhook import Webhook, WebhookConfig
path, url, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
hook, quick = Webhook(WebhookConfig("alerts"), url), Backoff(0.02, 0.1)
sink = RemoteSink(Outbox(path), hook, ["response"], backoff=quick)
for number in range(first, first + count):
    assert sink.write({"type": "response", "id": f"id{number}", "stream": "door"})
    print(number, flush=True)
    time.sleep(0.005)
sink.close()
"""


def test_killed_again_and_again_while_the_receiver_is_down_or_up_nothing_is_missing(tmp_path, nothing_logged):
    """SIGKILL at any moment: each event whose write returned arrives, in order."""
    port = free_port()
    servers: list[Server] = []
    written: list[int] = []
    for attempt in range(6):
        if attempt % 2:
            servers.append(Server(port))
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                KILLED,
                tmp_path / "box",
                f"http://127.0.0.1:{port}",
                str(attempt * 1000),
                "500",
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        assert process.stdout is not None
        for _ in range(25 + attempt):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = process.stdout.read().split()
        written += range(attempt * 1000, attempt * 1000 + 25 + attempt + len(lines))
        if attempt % 2:
            servers[-1].close()
    servers.append(Server(port))
    sink = RemoteSink(Outbox(tmp_path / "box"), hook(f"http://127.0.0.1:{port}"), ["response"])
    wait_for(lambda: sink.depth == 0)
    sink.close()
    servers[-1].close()
    arrived = [event_id for server in servers for event_id in server.ids]
    missing = {f"id{n}" for n in written} - set(arrived)
    assert not missing
    first_times = list(dict.fromkeys(arrived))
    assert first_times == sorted(first_times, key=lambda event_id: int(event_id[2:]))
    assert len(arrived) - len(first_times) <= 6  # at most the one in hand is sent twice at each kill
