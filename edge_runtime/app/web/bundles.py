"""What the loaded model knows, so that people ask what works."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from edge_runtime.app.run.control import Control
from edge_runtime.engine.stream_model import StreamModel


class BundleView(BaseModel):
    """A model that cameras are watched with: a bundle or an endpoint."""

    name: str
    domain: str
    """What it was trained on, in a sentence; empty where the bundle does not say."""
    generated: bool
    """It knows generated clips alone."""
    classes: list[str]
    examples: list[str]
    """Questions that work."""
    not_examples: list[str]
    """Questions that do not."""


def bundles_router(control: Control) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["model"])

    @router.get("/bundles")
    def bundles() -> list[BundleView]:
        """What the model knows; more than one where cameras have models of their own."""
        return [_view(model) for model in control.models()]

    return router


def _view(model: StreamModel) -> BundleView:
    known = model.knowledge
    return BundleView(
        name=model.name,
        domain="" if known is None else known.domain,
        generated=known is not None and known.footage == "generated",
        classes=[] if known is None else [one.name for one in known.classes],
        examples=[] if known is None else [text for kind in known.kinds for text in kind.examples],
        not_examples=[] if known is None else list(known.not_examples),
    )
