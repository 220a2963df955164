"""``WS /api/v1/ws``: the same as the stream of events, as one JSON object a message."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from edge_runtime.app.web.events import Cameras, Ids, Types, wanted_by
from edge_runtime.app.web.live import Client, Live, TooManyClientsError
from edge_runtime.events.records import encode

_TRY_AGAIN = 1013
_POLL_S = 60.0


def socket_router(live: Live) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.websocket("/ws")
    async def follow(
        socket: WebSocket,
        since: Ids = None,
        types: Types = None,
        cameras: Cameras = None,
        scores: bool = True,
    ) -> None:
        """Events from now on, or after ``since``; messages of type ``score`` are the scores of a timestep.

        What the client sends is read and ignored.
        """
        try:
            client = live.follow(wanted_by(types, cameras), scores=scores)
        except TooManyClientsError:
            await socket.close(_TRY_AGAIN)
            return
        try:
            await socket.accept()
            reading = asyncio.create_task(_read(socket))
            sending = asyncio.create_task(_send(socket, client, since))
            await asyncio.wait([reading, sending], return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)
        finally:
            client.close()

    return router


async def _read(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass


async def _send(socket: WebSocket, client: Client, since: str | None) -> None:
    try:
        if since is not None:
            await client.begin_after(since)
        while True:
            item = await client.get(_POLL_S)
            if item is not None:
                await socket.send_text(encode(item.data))
    except StopAsyncIteration:
        await socket.close(_TRY_AGAIN)
