"""A browser's log-in: it posts the token once and gets a cookie, as <img> and EventSource send no headers."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.app.web.access import COOKIE, Access

_KEPT_S = 30 * 24 * 3600


class Login(BaseModel):
    """The token of ``[web]``."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=1000)


def login_router(access: Access) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["log-in"])

    @router.post("/login", status_code=204)
    def login(body: Login, response: Response) -> None:
        """Set the cookie that stands for the token. 401 when the token is wrong."""
        if access.needs_token:
            if not access.is_token(body.token):
                raise HTTPException(401, "the token is wrong")
            response.set_cookie(
                COOKIE, access.cookie, max_age=_KEPT_S, httponly=True, samesite="strict", secure=access.tls
            )

    @router.post("/logout", status_code=204)
    def logout(response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=access.tls)

    return router
