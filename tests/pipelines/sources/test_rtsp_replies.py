"""Odd answers of RTSP servers, from a socket on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import CameraOptions, StateChange, open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

ONCE = CameraOptions(connect_timeout_s=10, give_up_s=0)
SHA256 = 'WWW-Authenticate: Digest realm="cam", nonce="abc", qop="auth", algorithm=SHA-256\r\n'
MD5 = 'WWW-Authenticate: Digest realm="cam", nonce="abc"\r\n'
AUDIO = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=control:a\r\n"
METADATA = AUDIO.replace("audio", "application")


class OddServer:
    """Answers OPTIONS; ``describe(count, port)`` makes up every other answer, from its status on."""

    def __init__(self, describe: Callable[[int, int], str]) -> None:
        self.describe = describe
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"rtsp://viewer:s3cretword@127.0.0.1:{self.port}/cam"

    def _accept(self) -> None:
        while True:
            try:
                connected = self._socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        with connected, connected.makefile("rb") as lines:
            while first := lines.readline():
                head = [first, *iter(lines.readline, b"\r\n")]
                self.requests += 1
                number = next(line for line in head if line.lower().startswith(b"cseq")).decode().strip()
                status, _, rest = self.describe(self.requests, self.port).partition("\r\n")
                if first.startswith(b"OPTIONS"):
                    status, rest = "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n"
                try:
                    connected.sendall(f"RTSP/1.0 {status}\r\n{number}\r\n{rest}".encode())
                except OSError:
                    return

    def close(self) -> None:
        self._socket.close()


def described(text: str) -> str:
    return f"200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {len(text)}\r\n\r\n{text}"


@pytest.mark.parametrize(
    ("describe", "words", "permanent"),
    [
        (
            lambda n, port: f"302 Moved\r\nLocation: rtsp://127.0.0.1:{port}/x{n}\r\n\r\n",
            "in a circle",
            False,
        ),
        (lambda n, port: f"301 Moved\r\nLocation: rtsp://127.0.0.1:{port}/cam\r\n\r\n", "in a circle", False),
        (lambda *_: "403 Forbidden\r\n\r\n", "the server forbids access (403)", True),
        (lambda *_: f"401 Unauthorized\r\n{SHA256}\r\n", "asks for SHA-256 digest authentication", True),
        (lambda *_: f"401 Unauthorized\r\n{MD5}\r\n", "refuses the user name or password (401)", True),
        (lambda *_: f"401 Unauthorized\r\n{SHA256}{MD5}\r\n", "refuses the user name or password", True),
        (lambda *_: described(AUDIO), "there is no video in it", True),
        (lambda *_: described(METADATA), "there is no video in it", True),
    ],
)
def test_the_answer_is_named(describe: Callable[[int, int], str], words: str, permanent: bool) -> None:
    server = OddServer(describe)
    with pytest.raises(SourceError) as caught, open_camera(server.url, fps=1.0, options=ONCE) as camera:
        list(camera)
    server.close()
    assert words in str(caught.value)
    assert caught.value.permanent == permanent
    assert "s3cretword" not in str(caught.value) and "\n" not in str(caught.value)
    assert server.requests <= 40


def test_redirects_in_a_circle_do_not_flood_the_server() -> None:
    server = OddServer(lambda n, port: f"302 Moved\r\nLocation: rtsp://127.0.0.1:{port}/x{n}\r\n\r\n")
    with open_camera(server.url, fps=1.0, options=CameraOptions(connect_timeout_s=10)) as camera:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            camera.read(0.2)
    server.close()
    assert 0 < server.requests < 400  # five attempts at most; it was thousands


def test_a_camera_without_video_is_not_asked_again() -> None:
    server = OddServer(lambda *_: described(AUDIO))
    states = []
    with (
        pytest.raises(SourceError, match="no video"),
        open_camera(server.url, fps=1.0, options=CameraOptions()) as camera,
    ):
        states += [item.state for item in camera if isinstance(item, StateChange)]
    server.close()
    assert server.requests == 2
