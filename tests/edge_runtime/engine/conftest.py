"""A session over the tiny model."""

import numpy as np
import pytest

from edge_runtime.engine.model import Model


@pytest.fixture(scope="module")
def model(tiny_bundle_fp32):
    return Model(tiny_bundle_fp32, threads=1)


@pytest.fixture
def session(model):
    with model.session() as session:
        yield session


@pytest.fixture(scope="module")
def tokens(model):
    """Visual tokens of 60 frames that differ."""
    rng = np.random.default_rng(0)
    size = (1, model.stream_format.frame_tokens, model.bundle.model.hidden_size)
    return [rng.standard_normal(size).astype(np.float32) * 2 for _ in range(60)]
