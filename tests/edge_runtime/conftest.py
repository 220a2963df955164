"""Log messages of the runtime and a broker, for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_runtime.observability.log import lines_to
from tests.edge_runtime.mosquitto import MOSQUITTO, Broker


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the runtime has logged so far, from ``info`` on."""
    lines: list[str] = []
    with lines_to(lines.append, "edge_runtime"):
        yield lines


@pytest.fixture
def nothing_logged(logged: list[str]) -> Iterator[None]:
    """Fails a test that makes the runtime log anything."""
    yield
    assert logged == []


@pytest.fixture
def broker(tmp_path):
    """A real broker on loopback, without users."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    pytest.importorskip("paho.mqtt.client")
    broker = Broker(tmp_path)
    yield broker
    broker.stop()
