"""Connections that are bounded in number and in time.

Uvicorn bounds neither how long a request may take to come nor how long an answer may take to be read. Both
would let a client that dawdles keep its connection for ever (slowloris).
"""

from __future__ import annotations

import asyncio
import socket
import sys
import weakref
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MOST_CONNECTIONS = 256
REQUEST_TIMEOUT_S = 10.0
"""From the first byte to the last of a request, and from the connection to the first byte."""
WRITE_TIMEOUT_S = 30.0
"""A client that reads nothing for so long is dropped."""


class BoundedListener(socket.socket):
    """A listening socket that closes what connects beyond :data:`MOST_CONNECTIONS` at once.

    It counts from the first packet on. Uvicorn counts only after the TLS handshake, so clients that never
    begin one would take every file descriptor of the process.
    """

    def __init__(self, listener: socket.socket) -> None:
        """Take ``listener`` over."""
        super().__init__(fileno=listener.detach())
        self._accepted: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        if sum(one.fileno() >= 0 for one in self._accepted) >= MOST_CONNECTIONS:
            connection.close()
            raise ConnectionAbortedError("too many connections")  # asyncio goes on to the next
        self._accepted.add(connection)
        return connection, address


class BoundedLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers close a TLS connection that does not shake hands, or does not say goodbye,
    within :data:`REQUEST_TIMEOUT_S`. Uvicorn leaves asyncio's own limits, a minute and half a minute.
    """

    async def create_server(self, *arguments: Any, ssl: Any = None, **options: Any) -> asyncio.Server:
        if ssl is not None:
            options["ssl_handshake_timeout"] = REQUEST_TIMEOUT_S
            if sys.version_info >= (3, 11):
                options["ssl_shutdown_timeout"] = REQUEST_TIMEOUT_S
        return await super().create_server(*arguments, ssl=ssl, **options)


_COMING = (h11.IDLE, h11.SEND_BODY)
"""States of a client whose request has not come as a whole."""


class _WriteTimeout:
    """Mixin of an asyncio.Protocol: ends the connection when its client stops reading."""

    transport: asyncio.Transport
    _write_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_write_timer()
        super().connection_lost(exc)  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        if self._write_timer is None:
            loop = asyncio.get_running_loop()
            self._write_timer = loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()  # type: ignore[misc]

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class BoundedSocket(_WriteTimeout, WebSocketsSansIOProtocol):
    """A WebSocket. Uvicorn's pings find out whether its client is still there."""


class BoundedProtocol(_WriteTimeout, H11Protocol):
    """An HTTP connection."""

    _request_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._time_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_request_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._time_request()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_request_timer()
        self._stop_write_timer()
        super().handle_websocket_upgrade(event)

    def _time_request(self) -> None:
        """The timer runs while a request has not come as a whole; between two of them uvicorn's own does."""
        coming = self.conn.their_state in _COMING
        between = self.timeout_keep_alive_task is not None
        if not coming or between or self.transport.is_closing():
            self._stop_request_timer()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
