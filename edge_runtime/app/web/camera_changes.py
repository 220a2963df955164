"""Add and remove cameras while the others are watched, where ``[web]`` allows it.

An address is a way into the network of this machine, so both are refused unless ``allow_add_cameras`` is
true. It is parsed as one of the command line is; files of this machine are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from edge_runtime.app.run.camera_set import CameraSet
from edge_runtime.app.run.control import MOST_QUERIES, Control
from edge_runtime.app.web.cameras import CameraView, view
from edge_runtime.app.web.queries import NewQuery
from edge_runtime.config.cameras import CameraConfig, SourceOptions, name_problem
from edge_runtime.errors import ConfigError
from edge_runtime.events.evidence_config import EvidenceSettings
from edge_runtime.events.policy import PolicySettings
from edge_runtime.video.fingerprint import parse_fingerprint
from edge_runtime.video.framing import Framing
from edge_runtime.video.sampling import LEAST_FPS
from edge_runtime.video.zones import Zone

_REFUSED = "cameras may not be added or removed; set allow_add_cameras = true under [web] in edge-run.toml"

Share = Annotated[float, Field(ge=0, le=1)]
Corners = Annotated[list[tuple[Share, Share]], Field(min_length=3, max_length=100)]


class NewZone(BaseModel):
    """A part of the frame with a name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(max_length=40)]
    polygon: Corners


class NewCamera(BaseModel):
    """A camera; keys as in [[camera]] of edge-run.toml, and its password."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    source: Annotated[str, Field(min_length=1, max_length=2000)] = Field(
        description="Such as rtsp://host/path, http://host/path or /dev/video0; no file."
    )
    user: Annotated[str, Field(max_length=200)] | None = None
    password: Annotated[SecretStr, Field(max_length=1000)] | None = None
    fps: Annotated[float, Field(ge=LEAST_FPS, le=60)] | None = Field(None, description="Null: the model's.")
    transport: Literal["tcp", "udp", "auto"] | None = None
    tls_verify: bool | None = None
    tls_fingerprint: Annotated[str, Field(max_length=200)] | None = None
    mask: Annotated[list[Corners], Field(max_length=32)] = []
    crop: tuple[Share, Share, Share, Share] | None = None
    rotate: Literal[0, 90, 180, 270] = 0
    zone: Annotated[list[NewZone], Field(max_length=16)] = []
    ask: Annotated[list[NewQuery], Field(max_length=MOST_QUERIES)] = []

    def config(self, evidence: EvidenceSettings) -> CameraConfig:
        """The camera, with the ``evidence`` settings of all. Raises ConfigError."""
        if (problem := name_problem(self.name)) is not None or not self.name.isprintable():
            raise ConfigError(f"name: {problem or 'expected printable characters'}")
        if self.password is not None and self.user is None:
            raise ConfigError("password: give user as well")
        if self.tls_verify is False and self.tls_fingerprint is not None:
            raise ConfigError(
                "tls_verify: false accepts any certificate; leave it out beside tls_fingerprint"
            )
        try:
            fingerprint = (
                parse_fingerprint(self.tls_fingerprint) if self.tls_fingerprint is not None else None
            )
            options = SourceOptions(
                Framing(tuple(tuple(polygon) for polygon in self.mask), self.crop, self.rotate),
                self.transport,
                tls_verify=self.tls_verify,
                tls_fingerprint=fingerprint,
            )
            zones = tuple(Zone(zone.name, tuple(zone.polygon)) for zone in self.zone)
        except ValueError as err:
            raise ConfigError(str(err)) from err
        return CameraConfig(
            self.name,
            self.source,
            self.fps,
            self.user,
            queries=tuple(query.config(PolicySettings()) for query in self.ask),
            options=options,
            zones=zones,
            evidence=evidence,
        )


class RunView(BaseModel):
    """What the run allows."""

    allow_add_cameras: bool


def camera_changes_router(control: Control, cameras: CameraSet | None) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["cameras"])

    def allowed() -> CameraSet:
        if cameras is None:
            raise HTTPException(403, _REFUSED)
        return cameras

    @router.get("/run")
    def run() -> RunView:
        """What the run allows."""
        return RunView(allow_add_cameras=cameras is not None)

    @router.post("/cameras", status_code=201)
    def add(body: NewCamera) -> CameraView:
        """Watch one more camera. It is connected to from now on; whether it answers is in ``state``."""
        owner = allowed()
        password = None if body.password is None else body.password.get_secret_value()
        return view(owner.add(body.config(owner.evidence_settings), password))

    @router.delete("/cameras/{camera:path}", status_code=204)
    def remove(camera: str) -> None:
        """Stop watching a camera. Its events and evidence stay."""
        allowed().remove(camera)

    return router
