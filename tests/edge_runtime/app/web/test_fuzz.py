"""Requests that make no sense, thousands of them: never a 500, and the run goes on."""

from __future__ import annotations

import json
import random
import socket

import pytest

from edge_runtime.app.web.evidence import EvidenceFolder
from tests.edge_runtime.app.web.served_run import TOKEN, served, with_token

METHODS = ("GET", "GET", "GET", "POST", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "X")
PIECES = ("api", "v1", "cameras", "door", "hall", "queries", "q1", "q2", "events", "stream", "ws", "scores")
PIECES += (
    "snapshot.jpg",
    "preview.mjpg",
    "clip.mp4",
    "login",
    "logout",
    "metrics",
    "health",
    "live",
    "static",
)
PIECES += (
    "openapi.json",
    "..",
    "%2e%2e",
    "%2f",
    "%00",
    "%ff",
    "%",
    "",
    ".",
    "01M8PDKMX85ESDCYRDM9B8EEY8",
    "a" * 3000,
)
PATHS = (
    "/api/v1/cameras",
    "/api/v1/cameras/door/queries",
    "/api/v1/cameras/door/queries/q1",
    "/api/v1/cameras/door/scores",
    "/api/v1/cameras/door/snapshot.jpg",
    "/api/v1/events",
    "/api/v1/events/01M8PDKMX85ESDCYRDM9B8EEY8/clip.mp4",
    "/api/v1/login",
    "/metrics",
    "/",
)
KEYS = (
    "text",
    "at",
    "threshold",
    "paused",
    "min_gap",
    "repeat",
    "debounce",
    "budget",
    "quiet_hours",
    "token",
    "x",
    "name",
    "source",
    "user",
    "password",
    "mask",
    "crop",
    "rotate",
    "zone",
    "ask",
)
VALUES = (
    None,
    True,
    -1,
    0,
    1,
    0.5,
    1e308,
    10**400,
    "",
    "What?",
    "\ud800",
    "\0",
    "22:00-06:30",
    "99:99-00:00",
)
VALUES += ([1, 2], [2, 1], [[1]], {}, {"a": 1}, "x" * 5000, float("nan"), float("inf"))
PARAMETERS = ("since", "type", "camera", "limit", "scores", "x")
TEXTS = ("", "1", "-1", "1e9", "a" * 200, "%ff", "%00", "response", "door", "true", "9" * 50)
HEADERS = (
    "Cookie",
    "Content-Type",
    "Accept",
    "Range",
    "If-None-Match",
    "Last-Event-ID",
    "Origin",
    "Expect",
    "X",
)
STREAMS = ("stream", "preview.mjpg", "/ws")


def body(chance: random.Random) -> bytes:
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return b"[" * chance.randrange(30_000)
    fields = {key: chance.choice(VALUES) for key in chance.sample(KEYS, chance.randrange(len(KEYS)))}
    return json.dumps(fields).encode()


def request(chance: random.Random) -> bytes:
    path = chance.choice(PATHS)
    if chance.random() < 0.5:
        path = "/" + "/".join(chance.choices(PIECES, k=chance.randrange(7)))
    given = [f"{chance.choice(PARAMETERS)}={chance.choice(TEXTS)}" for _ in range(chance.randrange(3))]
    lines = [f"{chance.choice(METHODS)} {path}{'?' if given else ''}{'&'.join(given)} HTTP/1.1"]
    lines.append("Host: localhost" if chance.random() < 0.95 else f"Host: {chance.choice(TEXTS)}")
    lines.append(f"Authorization: Bearer {TOKEN if chance.random() < 0.9 else chance.choice(TEXTS)}")
    for name in chance.sample(HEADERS, chance.randrange(3)):
        lines.append(
            f"{name}: {chance.choice((*TEXTS, 'bytes=5-1', 'bytes=-1', 'a;b=c', 'edge_run=' + 'é'))}"
        )
    content = body(chance) if chance.random() < 0.6 else b""
    lines.append(f"Content-Length: {len(content) if chance.random() < 0.97 else chance.randrange(9**9)}")
    if chance.random() < 0.8:
        lines.append("Content-Type: application/json")
    if any(word in path for word in STREAMS):
        return b""  # they answer for ever; test_calls has them
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


@pytest.mark.parametrize(
    "count", [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_request_makes_the_server_fail(model, tmp_path, logged, count):
    chance = random.Random(count)
    with served(model, with_token(tmp_path), evidence=EvidenceFolder(tmp_path)) as run:
        port, statuses = int(run.url.rpartition(":")[2]), {}
        while sum(statuses.values()) < count:
            if not (sent := request(chance)):
                continue
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                try:
                    client.sendall(sent)
                    head, _, content = sent.partition(b"\r\n\r\n")
                    if f"Content-Length: {len(content)}\r\n".encode() not in head:
                        client.shutdown(socket.SHUT_WR)  # more was promised
                    status = client.recv(65536)[9:12].decode()
                except ConnectionError:  # refused before all of it was read
                    status = "closed"
            statuses[status] = statuses.get(status, 0) + 1
            assert status != "500", sent
        run.wait_for(3)
        with run.client(Authorization=f"Bearer {TOKEN}") as client:
            assert client.get("/api/v1/cameras").status_code == 200
    assert {"200", "401", "404", "422"} <= statuses.keys(), statuses
    assert not [line for line in logged if "unexpected" in line or TOKEN in line]
