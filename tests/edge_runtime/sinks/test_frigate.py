"""Frigate's API as its documentation publishes it, on a small HTTP server on loopback."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from edge_runtime import redaction
from edge_runtime.app.config_file import load_config
from edge_runtime.errors import ConfigError, Finding
from edge_runtime.sinks import SinkContext
from edge_runtime.sinks.frigate import Frigate, FrigateConfig, label_of, shortened
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import PermanentError, RetryableError

CREATE = {  # the published fields of the body: type, and whether null is allowed
    "source_type": (str,),
    "sub_label": (str,),
    "score": (int, float),
    "duration": (int,),
    "include_recording": (bool,),
    "draw": (dict,),
    "pre_capture": (int,),
}
PASSWORD = "c0rrect-horse"
QUESTION = "Tell me when someone rings."


def record(text: str = "Someone rings.", stream: str = "door", number: int = 1) -> OutboxRecord:
    event = {"type": "response", "id": f"id{number}", "stream": stream, "query": "q1", "question": QUESTION}
    event |= {"time": 19.0, "interval": [18.0, 19.0], "text": text, "score": 0.9312}
    return OutboxRecord(number, f"id{number}", stream, "response", json.dumps(event).encode())


class FrigateServer:
    """Cameras ``door`` and ``front yard``. With ``login`` it asks for a session, which ends when told to."""

    def __init__(self, *, login: bool = False, certificate=None, port: int = 0) -> None:
        self.created: list[tuple[str, str, dict]] = []
        self.logins = 0
        self.role = "admin"
        self.answers: list[int] = []
        self.session = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = outer.answer(self.path, body, self.headers.get("Cookie", ""), login)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, path: str, body: dict, cookie: str, login: bool):
        if self.answers:
            return self.answers.pop(0), {}, {}
        parts = path.split("/")
        if path == "/api/login":
            if body != {"user": "edge", "password": PASSWORD}:
                return 401, {}, {"message": "Login failed"}
            self.logins += 1
            self.session = f"t0ken-{self.logins}"
            return 200, {"Set-Cookie": f"frigate_token={self.session}; HttpOnly; Path=/"}, {}
        if login and cookie != f"frigate_token={self.session}":
            return 401, {}, {}
        if login and self.role != "admin":
            return 403, {}, {}
        if not (len(parts) == 6 and parts[:3] == ["", "api", "events"] and parts[5] == "create"):
            return 404, {}, {}
        camera, label = unquote(parts[3]), unquote(parts[4])
        if camera not in ("door", "front yard"):
            return 404, {}, {"success": False, "message": f"{camera} is not a valid camera."}
        wrong = [key for key, value in body.items() if not isinstance(value, CREATE.get(key, ()))]
        if wrong:
            return 422, {}, {"detail": wrong}
        self.created.append((camera, label, body))
        return 200, {}, {"success": True, "message": "Successfully created event.", "event_id": "1-a"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    server = FrigateServer()
    yield server
    server.close()


@pytest.fixture
def guarded():
    server = FrigateServer(login=True)
    yield server
    server.close()


def config(port: int, **keys) -> FrigateConfig:
    return FrigateConfig("nvr", url=f"http://127.0.0.1:{port}", **keys)


def wait_for(ready, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_response_becomes_an_event_with_the_published_fields(server):
    Frigate(config(server.port, duration_s=12)).send(record())
    body = {"sub_label": "Someone rings.", "score": 0.9312, "duration": 12, "include_recording": True}
    assert server.created == [("door", "tell_me_when_someone", body)]


def test_names_of_labels_and_cameras(server):
    by_text = config(server.port, labels={QUESTION: "door/bell"}, cameras={"yard": "front yard"})
    Frigate(by_text).send(record(stream="yard"))
    Frigate(config(server.port, labels={"q1": "bell"})).send(record("x" * 300))
    assert [(camera, label) for camera, label, _ in server.created] == [
        ("front yard", "door/bell"),
        ("door", "bell"),
    ]
    assert len(server.created[1][2]["sub_label"]) == 100 and server.created[1][2]["sub_label"].endswith("x…")


@pytest.mark.parametrize(
    ("question", "label"),
    [
        (QUESTION, "tell_me_when_someone"),
        ("Übergelaufen?", "übergelaufen"),
        ("A" * 40, "a" * 20),
        ("?!", "response"),
        ("../../login", "login"),
    ],
)
def test_a_label_is_made_from_the_question(question, label):
    assert label_of(question) == label and len(label) <= 20
    assert shortened("abc", 3) == "abc" and shortened("abcd", 3) == "ab…"


def test_a_camera_that_frigate_does_not_have_is_the_events_fault(server):
    with pytest.raises(PermanentError, match="404"):
        Frigate(config(server.port)).send(record(stream="none"))
    server.answers = [503]
    with pytest.raises(RetryableError, match="503"):
        Frigate(config(server.port)).send(record())


def test_a_login_is_made_kept_and_renewed(guarded):
    frigate = Frigate(config(guarded.port, user="edge"), PASSWORD)
    frigate.send(record())
    frigate.send(record(number=2))
    assert guarded.logins == 1
    guarded.session = "ended"
    frigate.send(record(number=3))
    assert guarded.logins == 2 and len(guarded.created) == 3
    assert redaction.scrub("a t0ken-1 t0ken-2 b") == "a *** *** b"


def test_a_login_that_does_not_work_drops_nothing_and_shows_nothing(guarded):
    with pytest.raises(RetryableError, match="it refuses the login of edge") as caught:
        Frigate(config(guarded.port, user="edge"), "wr0ng").send(record())
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(RetryableError, match="401 Unauthorized: it wants a login"):
        Frigate(config(guarded.port)).send(record())
    guarded.role = "viewer"
    with pytest.raises(RetryableError, match="403 Forbidden: the user needs the role admin"):
        Frigate(config(guarded.port, user="edge"), PASSWORD).send(record())


def test_a_certificate_is_verified(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = (
        "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    command = ["openssl", *request.split(), "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    server = FrigateServer(certificate=(certificate, key))
    try:
        url = f"https://127.0.0.1:{server.port}/nvr/api/"
        with pytest.raises(RetryableError, match="certificate is not accepted"):
            Frigate(FrigateConfig("nvr", url=url)).send(record())
        with pytest.raises(PermanentError, match="404"):  # below the path of the address
            Frigate(FrigateConfig("nvr", url=url, ca_file=certificate)).send(record())
        Frigate(FrigateConfig("nvr", url=url.replace("/nvr", ""), ca_file=certificate)).send(record())
        assert len(server.created) == 1
    finally:
        server.close()


def test_frigate_is_away_and_comes_back_and_old_responses_are_dropped(tmp_path, logged):
    first = FrigateServer()
    port = first.port
    sink = config(port, outbox_age_s=1.5).open(SinkContext(tmp_path))
    event = json.loads(record().body)
    first.close()
    sink.write({**event, "id": "old"})
    wait_for(lambda: sink.sender.failing)
    time.sleep(1.6)
    second = FrigateServer(port=port)
    try:
        sink.write({**event, "id": "new", "text": "New."})
        wait_for(lambda: sink.depth == 0)
        assert [body["sub_label"] for _, _, body in second.created] == ["New."]
        assert sink.close() == 1  # counted
    finally:
        second.close()
    assert "cannot send events to Frigate nvr (127.0.0.1): Connection refused" in logged[0]


def test_its_keys(tmp_path):
    path = tmp_path / "edge-run.toml"
    path.write_text(
        "[[frigate]]\nname = 'nvr'\nurl = 'http://nvr.lan:5000'\nuser = 'edge'\npassword_file = 'pw'\n"
        "duration = 20\nmax_age = 90\nlabels = { q1 = 'bell' }\ncameras = { yard = 'front' }\n"
    )
    (tmp_path / "pw").write_text(PASSWORD)
    (tmp_path / "pw").chmod(0o600)
    (frigate,) = load_config(path).sinks
    assert isinstance(frigate, FrigateConfig) and frigate.types == ("response",)
    assert (frigate.duration_s, frigate.outbox_age_s) == (20, 90.0)
    assert (frigate.labels, frigate.cameras) == ({"q1": "bell"}, {"yard": "front"})
    assert [finding.status for finding in frigate.check()] == ["warn"]  # a password without TLS
    assert list(frigate.contacts()) == [Finding("Frigate nvr", "ok", "nvr.lan:5000 (http)")]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("", "frigate.url: is missing"),
        ("url = 'http://u:t0ken@h/'", "frigate.url: the address holds a user"),
        ("url = 'http://h/'\nuser = 'edge'", "frigate.user: user and password_env"),
        ("url = 'http://h/'\npassword = 't0ken'", "frigate.password: secrets do not belong"),
        ("url = 'http://h/'\nduration = 1.5", "frigate.duration: expected whole seconds"),
        ("url = 'http://h/'\nevents = ['stats']", "frigate.events: Frigate takes responses alone"),
        ("url = 'http://h/'\nlabels = { q1 = 'a label that is too long' }", "frigate.labels: expected names"),
        ("url = 'http://h/'\nlabels = 'bell'", "frigate.labels: expected names"),
    ],
)
def test_mistakes_are_named_without_a_secret(tmp_path, keys, problem):
    path = tmp_path / "edge-run.toml"
    path.write_text(f"[[frigate]]\nname = 'nvr'\n{keys}\n")
    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(path)
    assert "t0ken" not in str(caught.value)
