"""A server on loopback that answers as the Hugging Face hub does, as far as its client needs it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``repositories``: files by name, by ``owner/name``. ``gated``: readable with :attr:`token` alone.

    ``cut``: file name -> how many answers end after half of what was asked for.
    """

    repositories: dict[str, Mapping[str, bytes]]
    gated: set[str] = field(default_factory=set)
    token: str = "hf_secret"
    cards: dict[str, dict[str, str]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)
    log: list[str] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve until the end of the block; yields the address for ``HF_ENDPOINT``."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.log.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _info(self, name: str, revision: str) -> None:
        if not self._known(name, revision):
            return
        files = self.hub.repositories[name]
        data = {
            "id": name,
            "sha": COMMIT,
            "private": False,
            "gated": "manual" if name in self.hub.gated else False,
            "cardData": self.hub.cards.get(name, {}),
            "tags": [],
            "siblings": [{"rfilename": file, "size": len(body)} for file, body in files.items()],
        }
        self._answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str) -> None:
        if not self._known(name, revision):
            return
        bearer = self.headers.get("Authorization")
        if name in self.hub.gated and bearer != f"Bearer {self.hub.token}":
            return self._refuse(403, "GatedRepo")
        body = self.hub.repositories[name].get(file)
        if body is None:
            return self._refuse(404, "EntryNotFound")
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._answer(206 if start else 200, body[start:], headers, file)

    def _known(self, name: str, revision: str) -> bool:
        if name not in self.hub.repositories:
            self._refuse(404, "RepoNotFound")
        elif revision not in self.hub.revisions:
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], file: str = "") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut.get(file, 0) > 0:
            self.hub.cut[file] -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""
