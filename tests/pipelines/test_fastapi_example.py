"""The example of a FastAPI application, served by uvicorn as a reader would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("gi")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.gst

ROOT = Path(__file__).resolve().parents[2]


def test_a_question_is_asked_and_its_responses_come(tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        "examples",
        "fastapi_app:app",
        "--port",
        f"{port}",
    ]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "BUNDLE": str(tiny_bundle), "SOURCE": "test:"}
    process = subprocess.Popen(command, cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            until, asked = time.monotonic() + 60, None
            while asked is None:
                assert time.monotonic() < until and process.poll() is None
                try:
                    asked = client.post("/ask", params={"text": "What do you see?", "threshold": 0})
                except httpx.TransportError:
                    time.sleep(0.2)
            assert asked.json() == "q1"
            with client.stream("GET", "/events") as stream:
                assert next(stream.iter_lines()).startswith("data: q1: ")
    finally:
        process.kill()
        process.communicate()


def test_it_is_short() -> None:
    text = (ROOT / "examples" / "fastapi_app.py").read_text(encoding="utf-8")
    assert sum(bool(line.strip()) for line in text.splitlines()) < 30
