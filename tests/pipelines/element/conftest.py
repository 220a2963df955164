"""The element `streampro`, registered, with a tiny model of random weights that always speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipelines

QUERY = "Tell me each step as it is finished."


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    pipelines.register()
    pipelines.register()  # again does no harm


@pytest.fixture
def streampro(tiny_bundle: Path) -> str:
    return f'streampro name=s bundle={tiny_bundle} threads=1 threshold=0 query="{QUERY}"'
