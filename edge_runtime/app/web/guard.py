"""What every request passes before a router sees it: access, size of the body, headers, errors of ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from edge_runtime.app.web.access import Access, Refusal
from edge_runtime.errors import first_line

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)

MOST_BODY = 64 * 1024
"""Bytes: a question has 2000 characters at most."""
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", _POLICY.encode()),
)


class _BodyTooLargeError(Exception):
    pass


class Guard:
    """An ASGI application around ``app``."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._access.refusal(scope) is not None:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            await self._app(scope, receive, send)
        except Exception as err:
            _report(scope, err)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
                if scope["path"].startswith("/api/"):
                    names = {name.lower() for name, _ in message["headers"]}
                    if b"cache-control" not in names:
                        message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        refusal = self._access.refusal(scope) or _declared_too_large(scope)
        if refusal is not None:
            return await _refuse(refusal, send_with_headers)
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > MOST_BODY:
                    raise _BodyTooLargeError
            return message

        try:
            await self._app(scope, receive_bounded, send_with_headers)
        except _BodyTooLargeError:
            if not started:
                await _refuse(_TOO_LARGE, send_with_headers)
        except Exception as err:
            _report(scope, err)
            if not started:
                await _refuse(Refusal(500, "unexpected error; see the log of edge-run"), send_with_headers)


MOST_HEAD = 32 * 1024
_TOO_LARGE = Refusal(413, f"the body is larger than {MOST_BODY} bytes")


def _declared_too_large(scope: Scope) -> Refusal | None:
    # The HTTP library bounds only a head that arrives in pieces.
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEAD:
        return Refusal(431, f"the headers are larger than {MOST_HEAD} bytes")
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and int(value) > MOST_BODY:  # h11 lets digits alone pass
            return _TOO_LARGE
    return None


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 413:
        headers.append((b"connection", b"close"))  # what is still to come is not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _report(scope: Scope, err: Exception) -> None:
    """A mistake of ours, or a client that went away in the middle of an answer."""
    if type(err).__name__ not in ("ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"):
        _log.warning("web: %s failed: unexpected %s: %s", scope["path"], type(err).__name__, first_line(err))
