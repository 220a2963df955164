"""What a camera sees: ``snapshot.jpg``, and ``preview.mjpg`` that a browser shows as <img>.

Frames are those that were decided on, with the masks applied. While somebody watches, cameras give them at
the size of the video; the first ones have the model's. They are encoded once for all who watch, and never in
the thread of the run.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import StreamingResponse
from PIL import Image

from edge_runtime.app.run.control import Control, UnknownCameraError
from edge_runtime.video.source import Frame

MOST_FPS = 5.0
MOST_VIEWERS = 32
_AGAIN_S = 10.0
"""A frame that stays is sent again after so long, or a browser would take the connection for dead."""
_WATCHED_S = 10.0
"""Somebody who asks for a frame is taken to watch for so long."""
_QUALITY = 80
_BOUNDARY = b"frame"


class Pictures:
    """Frames as JPEG; the last of each camera is kept for the next viewer."""

    def __init__(self, control: Control, size: int) -> None:
        self._control = control
        self._size = size
        self._lock = threading.Lock()
        self._encoded: dict[str, tuple[Frame, bytes]] = {}
        control.subscribe_left(self._forget)
        self.viewers = 0

    def newest(self, camera: str) -> bytes | None:
        """JPEG of the newest frame; None before the first. Not in the event loop: encoding takes time."""
        self._control.watch_pictures(camera, _WATCHED_S)
        frame = self._control.latest_frame(camera)
        if frame is None:
            return None
        with self._lock:
            kept = self._encoded.get(camera)
            if kept is None or kept[0] is not frame:
                kept = self._encoded[camera] = (frame, encode_jpeg(frame, self._size))
            return kept[1]

    def _forget(self, camera: str) -> None:
        with self._lock:
            self._encoded.pop(camera, None)


def encode_jpeg(frame: Frame, size: int) -> bytes:
    """At most ``size`` pixels wide and high."""
    if frame.picture is not None:
        return frame.picture.jpeg(size)
    image = Image.fromarray(frame.image)
    image.thumbnail((size, size))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def preview_router(control: Control, size: int) -> APIRouter:
    router = APIRouter(prefix="/api/v1/cameras/{camera:path}", tags=["cameras"])
    pictures = Pictures(control, size)

    @router.get("/snapshot.jpg", response_class=Response)
    def snapshot(camera: str) -> Response:
        """The newest frame that was decided on."""
        picture = pictures.newest(camera)
        if picture is None:
            raise HTTPException(404, f"{camera}: no frame yet")
        return Response(picture, media_type="image/jpeg")

    @router.get("/preview.mjpg", response_class=StreamingResponse)
    async def preview(camera: str) -> StreamingResponse:
        """Frames as they come, at most five a second."""
        control.camera(camera)
        if pictures.viewers >= MOST_VIEWERS:
            raise HTTPException(503, "too many previews are being watched; try again later")
        return StreamingResponse(
            _frames(pictures, camera),
            media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}",
            headers={"cache-control": "no-store"},
        )

    return router


async def _frames(pictures: Pictures, camera: str) -> AsyncIterator[bytes]:
    """A slow viewer gets the newest frame whenever it has read the one before."""
    pictures.viewers += 1
    loop = asyncio.get_running_loop()
    last, sent_at = None, 0.0
    try:
        while True:
            picture = await asyncio.to_thread(pictures.newest, camera)
            now = loop.time()
            if picture is not None and (picture is not last or now - sent_at >= _AGAIN_S):
                last, sent_at = picture, now
                head = b"--%b\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n"
                yield head % (_BOUNDARY, len(picture)) + picture + b"\r\n"
            await asyncio.sleep(1 / MOST_FPS)
    except UnknownCameraError:  # it was removed
        return
    finally:
        pictures.viewers -= 1
