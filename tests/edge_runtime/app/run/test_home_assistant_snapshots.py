"""Which picture Home Assistant shows of a response: its evidence if there is some, otherwise the frame."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edge_runtime.app.run.control import Control
from edge_runtime.app.run.home_assistant import MOST_SNAPSHOT_BYTES, HomeAssistant, small_enough
from edge_runtime.atomic_write import whole_file
from edge_runtime.sinks.mqtt import MqttConfig
from edge_runtime.sinks.snapshots import WAIT_S
from tests.edge_runtime.app.run.test_home_assistant import Home, home
from tests.edge_runtime.mosquitto import Broker, wait_for

TOPIC = "edge-run/door/snapshot"
GREY = 90


class OneCamera(Control):
    """A camera ``door`` without a model: what the run says of it comes from the test."""

    def cameras(self):
        return (SimpleNamespace(name="door", state="live"),)

    def queries(self, camera):
        return ()

    def latest_frame(self, camera):
        return SimpleNamespace(image=np.full((64, 64, 3), GREY, np.uint8))


class Run:
    def __init__(self, bridge: HomeAssistant, seen: Home) -> None:
        self._bridge, self.seen = bridge, seen

    def respond(self, snapshot: str | None) -> None:
        kept = {} if snapshot is None else {"evidence": {"snapshot": snapshot}}
        event = {"id": "id1", "type": "response", "stream": "door", "text": "A person.", **kept}
        started = time.monotonic()
        self._bridge._on_event(event)
        self._bridge._on_scores(SimpleNamespace(camera="door"))
        assert time.monotonic() - started < WAIT_S / 2  # the decision loop calls these

    def sizes(self) -> list[tuple[int, int]]:
        return [Image.open(io.BytesIO(payload)).size for topic, payload, _ in self.seen.log if topic == TOPIC]


@contextmanager
def bridged(broker: Broker, folder: Path | None) -> Iterator[Run]:
    config = MqttConfig("home", host="127.0.0.1", port=broker.port, home_assistant=True)
    with home(broker.port) as seen:
        bridge = HomeAssistant(config, OneCamera(lambda: None), evidence=folder, longest_pause_s=1)
        try:
            seen.wait("edge-run/door/watching", "ON")
            yield Run(bridge, seen)
        finally:
            bridge.close()


def write(path: Path, size: tuple[int, int] = (320, 240)) -> None:
    with whole_file(path) as temporary:
        Image.new("RGB", size, "red").save(temporary, "JPEG")


def test_the_evidence_is_shown_once_it_is_written_and_nothing_before(broker, tmp_path):
    with bridged(broker, tmp_path) as run:
        run.respond("a.jpg")
        time.sleep(0.5)
        assert run.sizes() == []
        write(tmp_path / "a.jpg")
        wait_for(lambda: run.sizes() == [(320, 240)])
        with home(broker.port) as later:  # retained, byte for byte
            wait_for(lambda: later.state.get(TOPIC) == (tmp_path / "a.jpg").read_bytes())


@pytest.mark.parametrize("snapshot", [None, "../a.jpg"])
def test_without_evidence_the_frame_is_shown_at_once(broker, tmp_path, snapshot):
    write(tmp_path / "a.jpg")
    (tmp_path / "kept").mkdir()
    started = time.monotonic()
    with bridged(broker, tmp_path / "kept") as run:
        run.respond(snapshot)
        wait_for(lambda: run.sizes() == [(64, 64)])
        assert time.monotonic() - started < WAIT_S


def test_evidence_that_does_not_come_is_given_up_although_responses_go_on(broker, tmp_path):
    with bridged(broker, tmp_path) as run:
        until = time.monotonic() + 2 * WAIT_S
        while not run.sizes() and time.monotonic() < until:
            run.respond("none.jpg")
            time.sleep(0.2)
        assert run.sizes()[0] == (64, 64)


def test_the_end_of_a_run_does_not_wait_for_evidence(broker, tmp_path):
    with home(broker.port) as seen:
        with bridged(broker, tmp_path) as run:
            run.respond("none.jpg")
        wait_for(lambda: TOPIC in seen.state, 1.0)


def test_a_large_snapshot_is_made_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=95)
    assert len(file.getvalue()) > MOST_SNAPSHOT_BYTES
    smaller = small_enough(file.getvalue())
    assert Image.open(io.BytesIO(smaller)).size == (1280, 960) and len(smaller) < len(file.getvalue())
    assert small_enough(b"small") == b"small"
