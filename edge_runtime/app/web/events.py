"""Events: those that are over, and those to come as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

from edge_runtime.app.web.live import Client, Item, Live, TooManyClientsError, Wanted
from edge_runtime.events.records import Event, encode

KEEP_ALIVE_S = 15.0
MOST_EVENTS = 1000

Ids = Annotated[str | None, Query(max_length=64, description="Id of the last event that is known.")]
Types = Annotated[
    list[str] | None, Query(alias="type", description="response, stream, query, model, stats; all without.")
]
Cameras = Annotated[list[str] | None, Query(alias="camera", description="All without.")]


def wanted_by(types: list[str] | None, cameras: list[str] | None) -> Wanted:
    def wanted(event: Event) -> bool:
        return (not types or event["type"] in types) and (not cameras or event.get("stream") in cameras)

    return wanted


def events_router(live: Live) -> APIRouter:
    router = APIRouter(prefix="/api/v1/events", tags=["events"])

    @router.get("")
    def events(
        since: Ids = None,
        types: Types = None,
        cameras: Cameras = None,
        limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = 200,
    ) -> Response:
        """Past events, the oldest first: the newest ``limit``, or the first ``limit`` after ``since``.

        ``complete`` is false when the event ``since`` is not kept any more. ``more``: ask again with
        ``since=last``.
        """
        wanted = wanted_by(types, cameras)
        if since is None:
            found, complete, more = live.log.newest(limit, wanted), True, False
        else:
            page = live.log.since(since)
            found, complete = [event for event in page.events if wanted(event)], page.complete
            more = len(found) > limit
            found = found[:limit]
        last = found[-1]["id"] if found else since
        head = json.dumps({"last": last, "complete": complete, "more": more})
        body = ",\n".join(map(encode, found))
        return Response(f'{head[:-1]}, "events": [\n{body}\n]}}\n', media_type="application/json")

    @router.get("/stream", response_class=StreamingResponse)
    async def stream(
        since: Ids = None,
        types: Types = None,
        cameras: Cameras = None,
        scores: bool = False,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> StreamingResponse:
        """Events as they happen (server-sent events), after ``Last-Event-ID`` or ``since`` if given.

        The event's name is its type. ``scores``: the scores of every timestep as well, named ``score``; they
        have no id. ``gap`` comes first when the last event is not kept any more.
        """
        try:
            client = live.follow(wanted_by(types, cameras), scores=scores)
        except TooManyClientsError:
            raise HTTPException(503, "too many clients follow events; try again later") from None
        return StreamingResponse(
            _as_text(client, last_event_id or since),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return router


async def _as_text(client: Client, since: str | None) -> AsyncIterator[bytes]:
    """With a comment now and then, so that neither side takes silence for the end."""
    try:
        yield b"retry: 1000\n\n"
        if since is not None:
            await client.begin_after(since)
        while True:
            item = await client.get(KEEP_ALIVE_S)
            yield b": still here\n\n" if item is None else _as_event(item)
    except StopAsyncIteration:
        return
    finally:
        client.close()


def _as_event(item: Item) -> bytes:
    id = "" if item.id is None else f"id: {item.id}\n"
    return f"{id}event: {item.kind}\ndata: {encode(item.data)}\n\n".encode()
