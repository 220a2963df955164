"""Pictures and clips of events: ``GET /api/v1/events/{id}/snapshot.jpg`` and ``clip.mp4``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

Kind = Literal["snapshot", "clip"]
_SUFFIXES: dict[Kind, str] = {"snapshot": ".jpg", "clip": ".mp4"}
_ID = re.compile(r"[0-9A-Z]{26}")


class EvidenceStore(Protocol):
    """Where pictures and clips lie."""

    def find(self, event_id: str, kind: Kind) -> Path | None:
        """The file; None when there is none. ``event_id`` comes from a request: it may be any text."""
        ...


class EvidenceFolder:
    """``FOLDER/<event id>.jpg`` and ``.mp4``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, event_id: str, kind: Kind) -> Path | None:
        if _ID.fullmatch(event_id) is None:  # so it is a name without a way out of the folder
            return None
        path = self._folder / f"{event_id}{_SUFFIXES[kind]}"
        return path if path.is_file() and not path.is_symlink() else None


class NoEvidence:
    """For a run that keeps none."""

    def find(self, event_id: str, kind: Kind) -> Path | None:
        return None


class OpenFileResponse(FileResponse):
    """Serves a file that is open already: it may be deleted before or while it is sent."""

    def __init__(self, file: BinaryIO, media_type: str) -> None:
        # What an event shows never changes. `private`: for the browser that asked alone.
        headers = {"cache-control": "private, max-age=86400"}
        super().__init__(f"/dev/fd/{file.fileno()}", media_type=media_type, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def evidence_router(store: EvidenceStore) -> APIRouter:
    router = APIRouter(prefix="/api/v1/events", tags=["evidence"])

    def serve(event_id: str, kind: Kind, media_type: str) -> FileResponse:
        try:
            if (path := store.find(event_id, kind)) is None:
                raise FileNotFoundError
            return OpenFileResponse(path.open("rb"), media_type)
        except FileNotFoundError:  # also when retention has deleted it by now
            raise HTTPException(404, f"there is no {kind} of that event") from None

    @router.get("/{event_id}/snapshot.jpg", response_class=FileResponse)
    def snapshot(event_id: str) -> FileResponse:
        """The frame that an event is about."""
        return serve(event_id, "snapshot", "image/jpeg")

    @router.get("/{event_id}/clip.mp4", response_class=FileResponse)
    def clip(event_id: str) -> FileResponse:
        """The seconds around an event. Ranges are served, so players can seek."""
        return serve(event_id, "clip", "video/mp4")

    return router
