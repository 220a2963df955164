"""Cameras: what they do, and the scores of their last timesteps."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from edge_runtime import redaction
from edge_runtime.app.run.control import CameraStatus, Control
from edge_runtime.app.web.live import Live


class ZoneView(BaseModel):
    """A part of the frame with a name."""

    name: str
    polygon: list[tuple[float, float]]
    """Corners in shares of the part that the model sees; also outside 0..1."""


class CameraView(BaseModel):
    """A camera as it is now."""

    name: str
    live: bool
    """False for a recording."""
    state: str
    """connecting, live, stalled, auth-failed, ended, failed; empty before the run has begun."""
    cause: str
    width: int | None
    height: int | None
    decoder: str
    fps: float
    """Timesteps per second."""
    dropped: int
    reconnects: int
    timesteps: int
    still: int
    """Timesteps left out because the scene stood still."""
    p50_ms: float | None
    p99_ms: float | None
    """From the frame to the decision."""
    aspect: float | None
    """Width by height of the part that the model sees."""
    zones: list[ZoneView]


def cameras_router(control: Control, live: Live) -> APIRouter:
    router = APIRouter(prefix="/api/v1/cameras", tags=["cameras"])

    @router.get("")
    def cameras() -> list[CameraView]:
        """All cameras of the run."""
        return [view(camera) for camera in control.cameras()]

    @router.get("/{camera:path}/scores")
    def scores(camera: str) -> list[dict[str, Any]]:
        """The scores of the last 600 timesteps, the oldest first, as the stream of events sends them."""
        control.camera(camera)
        return live.scores(camera)

    @router.get("/{camera:path}")
    def camera(camera: str) -> CameraView:
        """One camera."""  # the last route: a name such as rtsp://host/path holds slashes
        return view(control.camera(camera))

    return router


def view(camera: CameraStatus) -> CameraView:
    """As it is answered, without secrets."""
    zones = [ZoneView(name=name, polygon=list(polygon)) for name, polygon in camera.zones]
    shown = {
        "cause": redaction.scrub(camera.cause),
        "p50_ms": _rounded(camera.p50_ms),
        "p99_ms": _rounded(camera.p99_ms),
        "zones": zones,
    }
    return CameraView.model_validate({**vars(camera), **shown})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
