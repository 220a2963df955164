"""A web server on loopback whose answers a test makes up."""

from __future__ import annotations

import http.server
import re
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        with suppress(OSError):
            self.server.answers.get(self.path, _not_found)(self)

    def log_message(self, *_: object) -> None:
        pass

    def head(self, status: int, media_type: str = "", **headers: str) -> None:
        self.send_response(status)
        if media_type:
            self.send_header("Content-Type", media_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


Answer = Callable[[Handler], Any]


def _not_found(handler: Handler) -> None:
    handler.head(404)


def body(data: bytes, media_type: str = "application/octet-stream") -> Answer:
    """A whole file, with ranges."""

    def answer(handler: Handler) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        if not match:
            handler.head(200, media_type, Content_Length=str(len(data)), Accept_Ranges="bytes")
            handler.wfile.write(data)
            return
        first, last = int(match[1]), int(match[2] or len(data) - 1)
        part = data[first : last + 1]
        place = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        handler.head(206, media_type, Content_Length=str(len(part)), Content_Range=place)
        handler.wfile.write(part)

    return answer


def endless(data: bytes, seconds: float, media_type: str = "application/octet-stream") -> Answer:
    """The bytes of a recording at the pace of a live stream, without a length."""

    def answer(handler: Handler) -> None:
        handler.head(200, media_type)
        size = max(1, round(len(data) / seconds * 0.05))
        for start in range(0, len(data), size):
            handler.wfile.write(data[start : start + size])
            time.sleep(0.05)

    return answer


class Server(http.server.ThreadingHTTPServer):
    """``answers[path]`` is called for each GET of that path; ``requests`` lists the paths asked for."""

    daemon_threads = True

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        """``certificate``: files with the certificate and its key, for HTTPS."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self._scheme = "https"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up, or refuses the certificate, is part of the tests."""

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
