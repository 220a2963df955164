"""``/metrics``, ``/health/live`` and ``/health/ready``: :mod:`edge_runtime.observability.metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from edge_runtime.app.web.access import Access
from edge_runtime.app.web.live import Live
from edge_runtime.observability.metrics import MetricsPages

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def health_router(pages: MetricsPages, live: Live, access: Access) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Figures for Prometheus."""
        own = (
            f"# HELP edge_run_web_clients Clients that follow events.\n# TYPE edge_run_web_clients gauge\n"
            f"edge_run_web_clients {live.clients}\n"
            "# HELP edge_run_web_dropped_total Events and scores that clients were too slow for.\n"
            f"# TYPE edge_run_web_dropped_total counter\nedge_run_web_dropped_total {live.dropped}\n"
        )
        return PlainTextResponse(pages.answer("/metrics")[1] + own, media_type=_TEXT)

    @router.get("/health/live", response_class=PlainTextResponse)
    def alive(request: Request) -> PlainTextResponse:
        """200 while the loop of the run makes steps."""
        return answer("/health/live", request)

    @router.get("/health/ready", response_class=PlainTextResponse)
    def ready(request: Request) -> PlainTextResponse:
        """200 while frames of every camera are decided on."""
        return answer("/health/ready", request)

    def answer(path: str, request: Request) -> PlainTextResponse:
        """Needs no token; which camera is in trouble is said to those who have it."""
        status, text = pages.answer(path)
        if not access.has_token(request.scope):
            text = "ok\n" if status == 200 else "not ok; the cause is shown with the token\n"
        return PlainTextResponse(text, status)

    return router
