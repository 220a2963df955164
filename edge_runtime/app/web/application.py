"""The application that is served: routers, errors as JSON, the guard around all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from edge_runtime.app.run.camera_set import CameraSet
from edge_runtime.app.run.control import Control, UnknownCameraError, UnknownQueryError
from edge_runtime.app.web.access import Access
from edge_runtime.app.web.bundles import bundles_router
from edge_runtime.app.web.camera_changes import camera_changes_router
from edge_runtime.app.web.cameras import cameras_router
from edge_runtime.app.web.config import WebConfig
from edge_runtime.app.web.events import events_router
from edge_runtime.app.web.evidence import EvidenceStore, evidence_router
from edge_runtime.app.web.guard import Guard
from edge_runtime.app.web.health import health_router
from edge_runtime.app.web.live import Live
from edge_runtime.app.web.login import login_router
from edge_runtime.app.web.page import add_page
from edge_runtime.app.web.preview import preview_router
from edge_runtime.app.web.queries import queries_router
from edge_runtime.app.web.socket import socket_router
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.observability.metrics import MetricsPages
from edge_runtime.redaction import scrub


@dataclass(frozen=True)
class Site:
    """What is served, and to whom."""

    control: Control
    live: Live
    evidence: EvidenceStore
    metrics: MetricsPages
    access: Access
    cameras: CameraSet | None = None
    """Where cameras are added and removed; None where that is not allowed."""
    preview_size: int = WebConfig.preview_size


def make_application(site: Site) -> Guard:
    """Make it for uvicorn."""
    app = FastAPI(
        title="StreamPro Edge",
        description="Cameras, questions and events of a running edge-run.",
        version=_version(),
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
    )
    for router in (
        preview_router(site.control, site.preview_size),
        queries_router(site.control),
        cameras_router(site.control, site.live),
        camera_changes_router(site.control, site.cameras),
        bundles_router(site.control),
        events_router(site.live),
        evidence_router(site.evidence),
        socket_router(site.live),
        login_router(site.access),
        health_router(site.metrics, site.live, site.access),
    ):
        app.include_router(router)
    add_page(app)
    app.add_exception_handler(EdgeError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    return Guard(app, site.access)


def _on_error(_request: Request, error: Exception) -> Response:
    """Unknown: 404; cannot be asked: 422; the run is over or too busy: 503."""
    unknown = isinstance(error, (UnknownCameraError, UnknownQueryError))
    return _answer(404 if unknown else 422 if isinstance(error, ConfigError) else 503, scrub(str(error)))


def _on_invalid(_request: Request, error: Exception) -> Response:
    """In one line, without what was sent: that may be anything."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _answer(422, f"{where[:200]}: {str(first['msg'])[:200]}")


def _answer(status: int, detail: str) -> Response:
    return Response(json.dumps({"detail": detail}), status, media_type="application/json")


def _version() -> str:
    try:
        return metadata.version("streampro-edge")
    except metadata.PackageNotFoundError:
        return "source tree"
