"""``edge-run --web`` as users start it: a real process, a real camera pipeline, a tiny model."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[4]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home)}


def fails(home: Path, *arguments: str, code: str = "from edge_runtime.app.cli import main; main()") -> str:
    """The one line of an edge-run that ends with exit code 2."""
    done = subprocess.run(
        [sys.executable, "-c", code, "test:", "--ask", "What?", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
        env=environment(home),
    )
    assert done.returncode == 2 and done.stdout == "", done.stderr
    (line,) = done.stderr.splitlines()
    return line.removeprefix("edge-run: error: ")


@pytest.mark.gst
def test_from_the_command_to_the_picture_and_a_question_there_is_no_further_step(tiny_bundle, tmp_path):
    """The mask hides the left half, also in the picture. Asked without --ask, and answered."""
    pytest.importorskip("gi")
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "edge_runtime.app.cli",
                "test:",
                "--web",
                str(port),
                "--fps",
                "5",
                "--json",
            ),
            *("--mask", "0,0 0.5,0 0.5,1 0,1", "--bundle", str(tiny_bundle), "--threads", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    base = f"http://127.0.0.1:{port}/api/v1/cameras"
    try:
        with httpx.Client(trust_env=False, timeout=10) as client:
            until, picture = time.monotonic() + 90, None
            while picture is None or picture.status_code != 200:
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.1)
                try:
                    name = client.get(base).json()[0]["name"]
                    picture = client.get(f"{base}/{name}/snapshot.jpg")
                except httpx.TransportError:
                    continue
            pixels = np.asarray(Image.open(io.BytesIO(picture.content)))
            width = pixels.shape[1]
            assert pixels[:, : width // 2 - 8].max() < 16
            body = {"text": "What do you see?", "threshold": 0, "repeat": 0}
            asked = client.post(f"{base}/{name}/queries", json=body).json()
            events = f"http://127.0.0.1:{port}/api/v1/events"
            while not (found := client.get(events, params={"type": "response"}).json()["events"]):
                assert time.monotonic() < until
                time.sleep(0.05)
            assert found[0]["question"] == body["text"] and found[0]["query"] == asked["id"]
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert '"question": "What do you see?"' in output


def test_what_the_page_needs_is_said_in_one_line(tmp_path):
    bundle = ("--bundle", "nano")
    assert fails(tmp_path, "--web", "0.0.0.0:0", *bundle).startswith(
        "web: 0.0.0.0:0 can be reached from other machines, so it needs a token; give --web-token-file FILE"
    )
    assert "give --web as well" in fails(tmp_path, "--web-token-file", "token")
    without = "import sys; sys.modules['fastapi'] = None\nfrom edge_runtime.app.cli import main; main()"
    line = fails(tmp_path, "--web", "0", *bundle, code=without)
    assert line.startswith("--web: fastapi is not installed; run: pip install 'streampro-edge[web]'")
