"""A chat server on the loopback interface that plays a model, well or badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    """What the server does with one request. ``body`` replaces the whole JSON of the reply."""

    text: str | None = "yes"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str = "stop"
    counts_tokens: bool = True
    delay_s: float = 0.0
    pieces: int = 1
    """More than one: the body comes in that many pieces, with ``delay_s`` before each."""
    hangs_up: bool = False

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        choice = {"message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish_reason}
        reply: dict[str, Any] = {"choices": [choice]}
        if self.counts_tokens:
            reply["usage"] = {"prompt_tokens": 100, "completion_tokens": 10}
        return json.dumps(reply).encode()


class ChatServer:
    """``answer`` decides from the JSON of a request and its number, from 0; ``requests``: what came in."""

    def __init__(self, port: int = 0) -> None:
        self.answer: Callable[[dict[str, Any], int], Reply | str] = lambda request, number: Reply()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models: list[str] | None = None
        """Names that ``GET /models`` lists; None: the server knows no such path."""
        self.models_status = 200
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._serve(self)

            def do_GET(self) -> None:
                names = server.models
                content = json.dumps({"data": [{"id": name} for name in names or ()]}).encode()
                self.send_response(404 if names is None else server.models_status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that gave up waiting

        self._http = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append({"path": handler.path, **{k.lower(): v for k, v in handler.headers.items()}})
        reply = self.answer(request, number)
        if isinstance(reply, str):
            reply = Reply(reply)
        if reply.hangs_up:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        content = reply.content()
        handler.send_response(reply.status)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        size = -(-len(content) // reply.pieces)
        for start in range(0, len(content), max(1, size)):
            time.sleep(reply.delay_s)
            handler.wfile.write(content[start : start + size])
            handler.wfile.flush()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture
def reply_kind() -> type[Reply]:
    """The class of replies: tests import nothing from here."""
    return Reply
