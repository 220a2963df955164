"""One tiny model for all runs that are served."""

from __future__ import annotations

import pytest

import edge_runtime


@pytest.fixture(scope="session")
def model(tiny_bundle):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    return edge_runtime.load(tiny_bundle, threads=1)
