"""Who may call, and what a client can do that means harm: refused, without effect on decisions."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import websockets
import websockets.sync.client

from edge_runtime.app.web import connections
from edge_runtime.app.web.access import Access
from edge_runtime.app.web.certificate import server_context
from edge_runtime.app.web.config import WebConfig
from edge_runtime.config.secret import Secret
from edge_runtime.errors import ConfigError
from tests.edge_runtime.app.web.served_run import TOKEN, served, with_token

CAMERAS = "/api/v1/cameras"
QUERIES = "/api/v1/cameras/door/queries"


@pytest.fixture(scope="module")
def run(model):
    with served(model) as run:
        yield run


@pytest.fixture(scope="module")
def closed(model, tmp_path_factory):
    """Asks for a token."""
    with served(model, with_token(tmp_path_factory.mktemp("token"))) as run:
        yield run


def port(run) -> int:
    return urlsplit(run.url).port


def raw(run, request: bytes) -> bytes:
    """The answer to a request as it stands."""
    with socket.create_connection(("127.0.0.1", port(run)), timeout=10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def test_without_the_token_nothing_is_shown_and_nothing_changes(closed, logged):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    wrong = [{}, *({"Authorization": value} for value in ("Bearer", "Bearer x", f"Basic {TOKEN}", TOKEN))]
    wrong += [{"Cookie": f"edge_run={TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}]
    with closed.client() as client:
        for headers in wrong:
            for path in (CAMERAS, QUERIES, "/metrics", "/openapi.json", "/api/v1/events", "/nothing"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert client.post(QUERIES, json={"text": "a?"}, headers=headers).status_code == 401
        assert client.get(CAMERAS, headers=bearer).status_code == 200
        assert client.get(f"{CAMERAS}?token={TOKEN}").status_code == 401  # it would stand in logs
        assert client.get("/").status_code == 200
        closed.wait_for(1)
        assert client.get("/health/live").text == "ok\n"
        assert [one["id"] for one in client.get(QUERIES, headers=bearer).json()] == ["q1"]
        with pytest.raises(websockets.InvalidStatus):
            websockets.sync.client.connect(closed.url.replace("http", "ws") + "/api/v1/ws", proxy=None)
    assert not any(TOKEN in line for line in logged)


def test_a_browser_logs_in_once_and_shows_its_cookie_from_then_on(closed):
    with closed.client() as client:
        refused = client.post("/api/v1/login", json={"token": "x"})
        assert refused.status_code == 401 and not refused.cookies
        answer = client.post("/api/v1/login", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        assert answer.status_code == 204 and TOKEN not in cookie
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
        assert client.get(f"{CAMERAS}/door/snapshot.jpg").status_code in (200, 404)
        url = closed.url.replace("http", "ws") + "/api/v1/ws"
        value = {"Cookie": f"edge_run={client.cookies['edge_run']}"}
        with websockets.sync.client.connect(url, additional_headers=value, proxy=None) as following:
            assert following.recv(timeout=10)
        assert client.post("/api/v1/logout").status_code == 204
        assert client.get(CAMERAS).status_code == 401
    assert Access("x", token=TOKEN).cookie != Access("x", token=TOKEN + "x").cookie


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8080"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "192.0.2.1"}, 421),
        ({"Host": "["}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://{host}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://{host}"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_are_kept_out(run, headers, status):
    host = f"127.0.0.1:{port(run)}"
    headers = {name: value.format(host=host) for name, value in headers.items()}
    with run.client() as client:
        assert client.get(CAMERAS, headers=headers).status_code == status
        changed = client.post(QUERIES, json={}, headers=headers)
        assert changed.status_code == (422 if status == 200 else status)
    if status != 200 and "[" not in headers.values():
        url = run.url.replace("http", "ws") + "/api/v1/ws"
        with pytest.raises((websockets.InvalidStatus, websockets.InvalidMessage)):
            websockets.sync.client.connect(
                url,
                additional_headers={k: v for k, v in headers.items() if k != "Host"},
                proxy=None,
                **({"origin": "http://evil.example"} if "Host" in headers else {}),
            )


def test_a_link_may_lead_to_the_page(run):
    with run.client() as client:
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        answer = client.get("/", headers=headers)
        assert answer.status_code == 200
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_names_of_a_server_on_the_network():
    def refused(access: Access, host: str) -> bool:
        scope = {"headers": [(b"host", host.encode())], "path": "/"}
        return access.refusal(scope) is not None

    access = Access("0.0.0.0", token=TOKEN, names=["Cams.lan"])
    for host in ("192.0.2.7:8080", "[2001:db8::1]:8080", "cams.lan", "CAMS.LAN.:8080", socket.gethostname()):
        assert not refused(access, host), host
    for host in ("evil.example", "cams.lan.evil.example", "", "a@b", "x" * 5000):
        assert refused(access, host), host


def test_the_network_needs_a_token_that_cannot_be_guessed(model, tmp_path):
    with (
        pytest.raises(ConfigError, match=r"0.0.0.0:0 can be reached .* give --web-token-file"),
        served(model, WebConfig(("0.0.0.0", 0))),
    ):
        pass
    (tmp_path / "short").write_text("secret")
    with (
        pytest.raises(ConfigError, match="the token has 6 characters"),
        served(model, WebConfig(("0.0.0.0", 0), Secret(file=tmp_path / "short"))),
    ):
        pass


def certificate(folder: Path, *, days: int) -> tuple[Path, Path]:
    """Self-signed, for 127.0.0.1; with negative ``days`` it has expired."""
    cert, key = folder / f"cert{days}.pem", folder / f"key{days}.pem"
    start = datetime.now(timezone.utc) - timedelta(days=10)
    end = datetime.now(timezone.utc) + timedelta(days=days)
    form = "%Y%m%d%H%M%SZ"
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01")
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index.txt\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        "default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\n"
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n[req]\ndistinguished_name=n\n[n]\n"
    )
    config = ["-config", str(folder / "ca.cnf")]
    subprocess.run(
        ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(folder / "csr"),
         "-subj", "/CN=edge", *config],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "ca", "-batch", "-selfsign", "-in", str(folder / "csr"), "-keyfile", str(key), "-out",
         str(cert), "-notext", "-startdate", start.strftime(form), "-enddate", end.strftime(form), *config],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls(model, tmp_path):
    cert, key = certificate(tmp_path, days=10)
    with served(model, with_token(tmp_path, tls_certificate=cert, tls_key=key)) as run:
        assert run.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=cert)
        with httpx.Client(base_url=run.url, verify=trust, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {TOKEN}", "Origin": run.url}
            assert client.get(CAMERAS, headers=headers).status_code == 200
            headers["Origin"] = run.url.replace("https", "http")
            assert client.get(CAMERAS, headers=headers).status_code == 403
            assert "Secure" in client.post("/api/v1/login", json={"token": TOKEN}).headers["set-cookie"]
        with pytest.raises(httpx.HTTPError), run.client() as plain:
            plain.base_url = run.url.replace("https", "http")
            plain.get(CAMERAS)


def test_an_expired_certificate_is_an_error_at_the_start(tmp_path):
    cert, key = certificate(tmp_path, days=-1)
    with pytest.raises(ConfigError, match=r"certificate .*cert-1.pem has expired; renew it"):
        server_context(cert, key)
    good, other = certificate(tmp_path, days=5)
    server_context(good, other)
    with pytest.raises(ConfigError, match="cannot be used"):
        server_context(good, key)
    with pytest.raises(ConfigError, match="cannot be used: No such file"):
        server_context(tmp_path / "none.pem", key)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"10000\r\n" + b"a" * 0x10000 + b"\r\n" + b"10000\r\n" + b"a" * 0x10000 + b"\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_malformed_and_oversized_requests_are_refused(run, request_bytes):
    answer = raw(run, request_bytes)
    # Empty: refused and closed while more was still to come.
    assert answer == b"" or answer[9:12] in (b"400", b"404", b"413", b"421", b"431"), answer[:100]
    with run.client() as client:
        assert client.get(CAMERAS).status_code == 200


def test_200_connections_at_a_time(run):
    """100 that follow events, 100 that say nothing; calls are answered meanwhile."""
    quiet = [socket.create_connection(("127.0.0.1", port(run))) for _ in range(100)]
    following = []
    try:
        for _ in range(100):
            client = socket.create_connection(("127.0.0.1", port(run)), timeout=20)
            client.sendall(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            following.append(client)
        assert all(client.recv(20).startswith(b"HTTP/1.1 200") for client in following)
        with ThreadPoolExecutor(20) as pool, run.client() as client:
            statuses = list(pool.map(lambda _: client.get(CAMERAS).status_code, range(100)))
            assert statuses == [200] * 100
            assert client.get("/api/v1/events/stream").status_code == 503  # one too many follows
        before = run.runner.telemetry.timesteps
        run.wait_for(20)
        assert run.runner.telemetry.timesteps >= before + 20
    finally:
        for client in (*quiet, *following):
            client.close()
    until = time.monotonic() + 10
    while run.server._live.clients and time.monotonic() < until:
        time.sleep(0.05)
    assert run.server._live.clients == 0


def test_connections_beyond_the_most_are_closed_at_once(model, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    with served(model) as run:
        held = [socket.create_connection(("127.0.0.1", port(run)), timeout=10) for _ in range(5)]
        try:
            time.sleep(0.3)
            refused = socket.create_connection(("127.0.0.1", port(run)), timeout=10)
            with refused, suppress(ConnectionResetError):
                assert refused.recv(1) == b""
        finally:
            for client in held:
                client.close()
        time.sleep(0.3)
        with run.client() as client:
            assert client.get(CAMERAS).status_code == 200


def test_who_never_begins_tls_counts_among_the_connections(model, tmp_path, monkeypatch):
    """No token is needed to connect, so without a bound anybody could take every file descriptor."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    cert, key = certificate(tmp_path, days=10)
    with served(model, with_token(tmp_path, tls_certificate=cert, tls_key=key)) as run:
        held = [socket.create_connection(("127.0.0.1", port(run)), timeout=10) for _ in range(5)]
        try:
            time.sleep(0.3)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                refused = socket.create_connection(("127.0.0.1", port(run)), timeout=10)
                with refused, suppress(ConnectionResetError):
                    assert refused.recv(1) == b""
            assert len(os.listdir("/proc/self/fd")) <= before + 2
        finally:
            for client in held:
                client.close()
        time.sleep(0.3)
        with httpx.Client(base_url=run.url, verify=ssl.create_default_context(cafile=cert)) as client:
            assert client.get(CAMERAS, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_who_does_not_finish_the_handshake_is_dropped(model, tmp_path, monkeypatch, start):
    """Silent from the beginning, and after the first bytes of it."""
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.6)
    cert, key = certificate(tmp_path, days=10)
    with served(model, with_token(tmp_path, tls_certificate=cert, tls_key=key)) as run:
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port(run)), timeout=20) as client:
            client.sendall(start)
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert 0.3 < time.monotonic() - begin < 6
        run.wait_for(3)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
    ],
)
def test_who_sends_a_request_byte_by_byte_is_dropped(model, monkeypatch, start):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.6)
    with served(model) as run:
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port(run)), timeout=10) as client:
            client.sendall(start)
            with pytest.raises(OSError):
                while time.monotonic() - begin < 8:
                    if start:
                        client.sendall(b"X")
                    time.sleep(0.1)
                    client.settimeout(0.01)
                    try:
                        while chunk := client.recv(65536):
                            assert chunk
                        raise ConnectionResetError("closed")
                    except TimeoutError:
                        continue
        assert 0.3 < time.monotonic() - begin < 6


def test_a_viewer_who_stops_reading_is_dropped_and_holds_up_nobody(model, monkeypatch):
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 1.0)
    with served(model) as run:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port(run)))
        client.sendall(b"GET /api/v1/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        sockets = run.server._server.server_state.connections
        until = time.monotonic() + 5
        while not sockets and time.monotonic() < until:
            time.sleep(0.01)
        assert sockets
        run.wait_for(20)
        until = time.monotonic() + 30
        while sockets and time.monotonic() < until:
            time.sleep(0.05)
        assert not sockets
        client.close()
        assert threading.active_count() < 100
