"""Cameras that are added and removed over HTTP while ``edge-run`` watches: processes, video and a broker."""

from __future__ import annotations

import io
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from edge_runtime.errors import ConfigError
from edge_runtime.events.evidence_config import EvidenceSettings
from tests.edge_runtime.app.process import EDGE_RUN, environment
from tests.edge_runtime.app.run.test_home_assistant import home
from tests.edge_runtime.app.web.served_run import served
from tests.edge_runtime.app.web.test_fuzz import VALUES

ROOT = Path(__file__).resolve().parents[4]
PASSWORD = "a-password-for-one-camera"
QUESTION = {"text": "What do you see?", "threshold": 0, "repeat": 0}
CONFIG = """\
[runtime]
events = "events.jsonl"

[web]
address = "127.0.0.1:{port}"
allow_add_cameras = true
{more}
"""

pytestmark = pytest.mark.gst


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def until(ready: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


class Edge:
    """An ``edge-run`` that allows changes; ``said`` is what it wrote, after it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=40)
        self.said = ""

    def add(self, name: str, source: str, **more: Any) -> httpx.Response:
        body = {"name": name, "source": source, **more}
        return self.client.post("/api/v1/cameras", json=body)

    def remove(self, name: str) -> int:
        return self.client.delete(f"/api/v1/cameras/{name}").status_code

    def names(self) -> list[str]:
        return [camera["name"] for camera in self.client.get("/api/v1/cameras").json()]

    def state(self, name: str) -> str:
        return str(self.client.get(f"/api/v1/cameras/{name}").json()["state"])

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        params = {"camera": name, "type": kind, "limit": 1000}
        found: list[dict[str, Any]] = self.client.get("/api/v1/events", params=params).json()["events"]
        return found


@contextmanager
def running(bundle: Path, folder: Path, *arguments: str, more: str = "") -> Iterator[Edge]:
    pytest.importorskip("gi")
    pytest.importorskip("fastapi")
    port = free_port()
    (folder / "edge-run.toml").write_text(CONFIG.format(port=port, more=more))
    command = [*EDGE_RUN, *arguments, "--json", "--bundle", str(bundle), "--threads", "1"]
    with (folder / "said").open("wb") as said:  # no pipe: it is not read while it runs
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder, env=environment(folder))
    edge = Edge(process, port)
    try:

        def answers() -> bool:
            assert edge.process.poll() is None, (folder / "said").read_text()
            try:
                return edge.client.get("/api/v1/run").json()["allow_add_cameras"] is True
            except httpx.TransportError:
                return False

        until(answers, 90)
        yield edge
    finally:
        edge.process.send_signal(signal.SIGINT)
        edge.process.wait(60)
        edge.said = (folder / "said").read_text()
        edge.client.close()
    assert edge.process.returncode == 130, edge.said


@contextmanager
def rtsp_camera() -> Iterator[str]:
    """A camera with a password; its address."""
    port = free_port()
    command = [sys.executable, str(ROOT / "tests/pipelines/rtsp_server.py"), str(port)]
    server = subprocess.Popen(
        [*command, "--user", "viewer", "--password", PASSWORD], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout and server.stdout.readline() == "ready\n"
        yield f"rtsp://127.0.0.1:{port}/cam"
    finally:
        server.terminate()
        server.wait(20)


def retained(port: int) -> list[str]:
    """Topics that the broker keeps."""
    with home(port) as later:
        until(lambda: "edge-run/availability" in later.state, 10)
        time.sleep(0.3)
        return list(later.state)


def test_an_added_camera_is_like_the_others_and_leaves_nothing(tiny_bundle, tmp_path, broker):
    """Events, evidence, metrics, preview of the video's size, Home Assistant; no password anywhere."""
    mqtt = f'[[mqtt]]\nname = "home"\nhost = "127.0.0.1"\nport = {broker.port}\nhome_assistant = true\n'
    with home(broker.port) as seen, rtsp_camera() as address:
        with running(tiny_bundle, tmp_path, "test:", "--evidence", "evidence", more=mqtt) as edge:
            answers = [edge.add("hall", address, user="viewer", password=PASSWORD, ask=[QUESTION])]
            assert answers[0].status_code == 201, answers[0].text
            response = until(lambda: edge.events("hall", "response"))[0]
            assert response["question"] == QUESTION["text"]
            evidence = f"/api/v1/events/{response['id']}/snapshot.jpg"
            until(lambda: edge.client.get(evidence).is_success)
            assert edge.state("hall") == "live"
            preview = "/api/v1/cameras/hall/snapshot.jpg"
            until(lambda: Image.open(io.BytesIO(edge.client.get(preview).content)).size == (320, 240))
            metrics = edge.client.get("/metrics").text
            assert 'edge_run_timesteps_total{stream="hall"}' in metrics
            until(
                lambda: seen.text("edge-run/hall/watching") == "ON" and "edge-run/hall/snapshot" in seen.state
            )
            device = [topic for topic in seen.state if topic.endswith("edge-run_hall/config")]
            assert len(device) == 1

            with edge.client.stream("GET", "/api/v1/cameras/hall/preview.mjpg") as stream:
                chunks = stream.iter_bytes()
                next(chunks)
                assert edge.remove("hall") == 204
                for _ in chunks:  # it ends
                    pass
            assert "hall" not in edge.names() and len(edge.names()) == 1
            assert "hall" not in edge.client.get("/metrics").text
            assert edge.client.get(preview).status_code == 404
            assert edge.events("hall", "stream")[-1]["cause"] == "it was removed"
            assert edge.client.get(evidence).is_success
            until(lambda: not [topic for topic in retained(broker.port) if "hall" in topic], 20)
            assert edge.remove("hall") == 404
            before = edge.client.get("/api/v1/cameras").json()[0]["timesteps"]
            until(lambda: edge.client.get("/api/v1/cameras").json()[0]["timesteps"] > before)
            answers += [edge.client.get(path) for path in ("/metrics", "/api/v1/events")]
        assert not [one for one in answers if PASSWORD in one.text]
    assert PASSWORD not in edge.said + (tmp_path / "events.jsonl").read_text()
    assert not [topic for topic, payload, _ in seen.log if PASSWORD.encode() in payload]


def test_a_camera_that_cannot_be_is_refused_in_one_line(tiny_bundle, tmp_path):
    """It starts without any, and goes on when the last one was removed."""
    with running(tiny_bundle, tmp_path) as edge:
        assert edge.names() == []

        def refused(source: str, name: str = "x", **more: Any) -> str:
            answer = edge.add(name, source, **more)
            assert answer.status_code == 422, answer.text
            detail: str = answer.json()["detail"]
            assert "\n" not in detail and "secretword" not in answer.text
            return detail

        assert "the source is a file" in refused("/etc/passwd")
        assert "the source is a file" in refused("file:///etc/passwd")
        assert "the source is a file" in refused(str(tmp_path))
        assert "the source is a file" in refused("videotestsrc ! fakesink")
        assert "not supported" in refused("ftp://me:secretword@host/clip.mp4")
        assert "without its scheme" in refused("me:secretword@host/path")
        assert "give user as well" in refused("rtsp://host/path", password="secretword")
        assert "rtsp:// and http:// sources alone" in refused("test:", user="me", password="secretword")
        assert "without '/' and ':'" in refused("test:", name="a/b")
        assert "printable" in refused("test:", name="a\x1bb")
        assert "mask" in refused("test:", mask=[[[0.1, 0.1], [0.1, 0.1]]])
        assert "crop" in refused("test:", crop=[0.5, 0.5, 0.9, 0.9])
        assert "fingerprint" in refused("rtsps://host/path", tls_fingerprint="ab")
        assert "zone" in refused("test:", zone=[{"name": "gate", "polygon": [[0, 0], [1, 0], [1, 1]]}])
        refused("test:", decoder="fakesink")
        assert edge.names() == []

        assert edge.add("door", "test:").status_code == 201
        assert "watched already" in refused("test:", name="door")
        assert edge.remove("door") == 204 and edge.names() == []
        assert edge.add("door", "test:", mask=[[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]).status_code == 201
        until(lambda: edge.state("door") == "live")
    assert "secretword" not in edge.said and "Traceback" not in edge.said


def test_by_default_cameras_are_neither_added_nor_removed(model):
    with served(model) as run, run.client() as client:
        assert client.get("/api/v1/run").json() == {"allow_add_cameras": False}
        answer = client.post("/api/v1/cameras", json={"name": "hall", "source": "test:"})
        assert answer.status_code == 403 and "allow_add_cameras" in answer.json()["detail"]
        assert client.delete("/api/v1/cameras/door").status_code == 403
        assert [camera["name"] for camera in client.get("/api/v1/cameras").json()] == ["door"]


@pytest.mark.parametrize("count", [8, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_adding_and_removing_in_a_row_leaves_nothing(tiny_bundle, tmp_path, count):
    """Threads, descriptors and memory after the last are those after the first few; `door` loses no frame."""
    with running(tiny_bundle, tmp_path, "test:", "--evidence", "evidence") as edge:
        process = psutil.Process(edge.process.pid)
        (door,) = edge.names()

        def once(number: int) -> None:
            assert edge.add(f"camera {number}", "test:ball", fps=10, ask=[QUESTION]).status_code == 201
            until(lambda: edge.client.get(f"/api/v1/cameras/camera {number}").json()["timesteps"] > 0)
            edge.client.get(f"/api/v1/cameras/camera {number}/snapshot.jpg")
            assert edge.remove(f"camera {number}") == 204

        def held() -> tuple[int, int]:
            return process.num_threads(), process.num_fds()

        for number in range(4):
            once(number)
        until(lambda: process.num_threads() <= held()[0])
        time.sleep(1)
        threads, files = held()
        rss = process.memory_info().rss
        for number in range(4, count):
            once(number)
        until(lambda: held()[0] <= threads + 1 and held()[1] <= files + 1, 20)
        grown = (process.memory_info().rss - rss) / 2**20
        print(f"{count} cameras: {grown:.1f} MB more; threads and files {held()}, before {threads, files}")
        assert grown < 8 + 0.1 * count
        assert edge.names() == [door]
        assert edge.client.get("/metrics").text.count("edge_run_timesteps_total{") == 1


def test_whatever_is_sent_is_a_camera_or_an_error_in_one_line():
    """5,000 bodies made of sound and odd values; no camera holds what the command line would refuse."""
    from pydantic import ValidationError

    from edge_runtime.app.web.camera_changes import NewCamera

    chance = random.Random(7)
    square = [[0, 0], [1, 0], [1, 1]]
    sound = {
        "name": "hall",
        "source": "test:",
        "fps": 2,
        "rotate": 90,
        "mask": [square],
        "crop": [0, 0, 1, 1],
    }
    sound |= {"zone": [{"name": "gate", "polygon": square}], "ask": [QUESTION], "transport": "tcp"}
    values = (*VALUES, "a/b", "\x1b[2J", "sample", square, [square], [[[0, 0]]], [0.9, 0.9, 0.9, 0.9], -90)
    made = 0
    for _ in range(5000):
        body = {key: value for key, value in sound.items() if chance.random() < 0.9}
        for _ in range(chance.randrange(3)):
            key = chance.choice([*sound, "user", "password", "tls_verify", "tls_fingerprint", "decoder"])
            body[key] = chance.choice(values)
        try:
            camera = NewCamera.model_validate(body).config(EvidenceSettings())
        except ValidationError:
            continue
        except ConfigError as error:
            assert "\n" not in str(error)
            continue
        assert camera.name.strip() and camera.name.isprintable() and "/" not in camera.name
        assert "decoder" not in body and camera.options.decoder is None
        made += 1
    assert made > 500
