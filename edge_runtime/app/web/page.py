"""The page at ``/`` and its files at ``/static/``, from the folder ``static`` beside this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"


def add_page(app: FastAPI, static: Path = STATIC) -> None:
    """Serve ``index.html`` of ``static`` at ``/``, and all of its files."""

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(static / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/static", _Files(directory=static), name="static")


class _Files(StaticFiles):
    """Files that a browser asks for anew each time: after an update all of them are of one version."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response
