"""A run that is served over real uvicorn on loopback: a real model, frames on a beat of the test's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from edge_runtime.app.live_display import NoDisplay
from edge_runtime.app.run.control import Control
from edge_runtime.app.run.run_spec import WatchedCamera
from edge_runtime.app.run.runner import Runner
from edge_runtime.app.run.scheduler import round_robin
from edge_runtime.app.web.config import WebConfig
from edge_runtime.app.web.event_log import EventLog
from edge_runtime.app.web.evidence import EvidenceStore
from edge_runtime.app.web.server import WebServer, listen
from edge_runtime.config.cameras import CameraConfig
from edge_runtime.config.secret import Secret
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event, EventMaker
from edge_runtime.observability.metrics import MetricsPages, StreamMetrics
from edge_runtime.sinks import FileSink, Sinks
from tests.edge_runtime.list_sink import ListSink

TOKEN = "a-token-for-tests-0123456789"
QUESTION = QueryConfig("What does the person do?", policy=PolicySettings(threshold=0.0, repeat_s=0.0))
BEAT_S = 0.02


class Frame:
    picture = None

    def __init__(self, index: int) -> None:
        self.index = index
        self.captured_at = time.monotonic()
        self.image = np.full((64, 64, 3), 37 * index % 256, np.uint8)


class BeatCamera:
    """A live camera that gives a frame on every beat."""

    live, description, decoder, dropped, reconnects = True, "beat", "none", 0, 0
    resolution = (64, 64)

    def __init__(self) -> None:
        self.given = 0
        self.stopped = threading.Event()

    def read(self, timeout_s: float) -> Any:
        if self.stopped.wait(BEAT_S):
            raise StopIteration
        self.given += 1
        return Frame(self.given - 1)

    def set_masks(self, masks: Any) -> None: ...

    def want_pictures(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class ServedRun:
    """Its camera is ``door``."""

    def __init__(
        self, model: Any, config: WebConfig, file: Path | None, evidence: EvidenceStore | None
    ) -> None:
        self.control = Control()
        self.sink = ListSink()
        self.camera = BeatCamera()
        sinks = Sinks([*([FileSink(file)] if file else []), self.control.sink, self.sink])
        self.runner = Runner(model, [QUESTION], EventMaker("door"), sinks, NoDisplay(), stats_every_s=1e6)
        self.control.watch([WatchedCamera(CameraConfig("door", "test:"), self.runner, self.camera)])
        self.runner.begin(self.camera)
        streams = [StreamMetrics("door", 1.0, self.runner.telemetry, self.camera)]
        self.server = WebServer(listen(config), self.control, EventLog(file), MetricsPages(streams), evidence)
        self.url = self.server.url.rstrip("/")
        self.thread = threading.Thread(
            target=round_robin, args=([self.runner],), kwargs={"between": self.control.carry_out}
        )

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    def responses(self, query: str = "q1") -> list[Event]:
        return [e for e in list(self.sink.events) if e["type"] == "response" and e["query"] == query]

    def wait_for(self, timesteps: int) -> None:
        """Until so many more timesteps are over."""
        wanted = self.runner.telemetry.timesteps + timesteps
        until = time.monotonic() + 60
        while self.runner.telemetry.timesteps < wanted:
            assert time.monotonic() < until and self.thread.is_alive()
            time.sleep(0.005)


@contextmanager
def served(
    model: Any,
    config: WebConfig | None = None,
    *,
    file: Path | None = None,
    evidence: EvidenceStore | None = None,
) -> Iterator[ServedRun]:
    run = ServedRun(model, config or WebConfig(("127.0.0.1", 0)), file, evidence)
    run.thread.start()
    try:
        yield run
    finally:
        run.camera.stopped.set()
        run.thread.join(30)
        run.control.close()
        run.server.close()
    assert run.runner.error is None and not run.server._thread.is_alive()
    assert run.runner.telemetry.timesteps == run.camera.given  # whatever clients did, no frame was lost


def with_token(folder: Path, **more: Any) -> WebConfig:
    (folder / "token").write_text(TOKEN)
    return WebConfig(("127.0.0.1", 0), Secret(file=folder / "token"), **more)
