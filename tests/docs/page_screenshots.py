"""Make the pictures of docs/live-view.md: ``python -m tests.docs.page_screenshots``.

Serves the sample clip over RTSP in real time, watches it with nano as a camera, and photographs the page in
Chromium when it has answered: desktop, phone width, dark.
"""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from edge_runtime.video.samples import sample_clip
from tests.browser import Browser, open_browser
from tests.edge_runtime.app.process import EDGE_RUN, environment

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SHOTS = (("desktop", 1200, 760, "light"), ("phone", 390, 844, "light"), ("dark", 1200, 760, "dark"))
COLORS = 128
CONFIG = """
[evidence]
folder = "evidence"
post = 2.0
[web]
address = "127.0.0.1:{port}"
[[camera]]
name = "kitchen"
source = "rtsp://127.0.0.1:{rtsp}/clip"
[[camera.ask]]
text = "Guide me through making soup."
threshold = 0.4
[[camera.ask]]
text = "Tell me everything that happens."
threshold = 0.8
"""


def main() -> None:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports.append(probe.getsockname()[1])
    port, rtsp = ports
    clip, _ = sample_clip("nano")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "profile").mkdir()
        (folder / "edge-run.toml").write_text(CONFIG.format(port=port, rtsp=rtsp))
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "serve_clip.py"), str(rtsp), str(clip)],
            stdout=subprocess.PIPE,
        )
        assert server.stdout and server.stdout.readline() == b"ready\n"
        process = subprocess.Popen(
            [*EDGE_RUN, "kitchen"], stdout=subprocess.DEVNULL, cwd=folder, env=environment(folder)
        )
        try:
            while not listens(port):
                assert process.poll() is None
                time.sleep(0.2)
            with open_browser(folder / "profile") as browser:
                photograph(browser, f"http://127.0.0.1:{port}/")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
            server.terminate()
            server.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def photograph(browser: Browser, url: str) -> None:
    browser.resize(1200, 760)
    browser.open(url)
    deadline = time.monotonic() + 120  # the clip is played again and again
    enough = "return document.querySelectorAll('.thumb img').length > 4"
    while time.monotonic() < deadline and not browser.js(enough):
        time.sleep(1)
    for name, width, height, scheme in SHOTS:
        browser.emulate(scheme)
        browser.resize(width, height)
        browser.open(url)
        browser.js("document.documentElement.style.scrollbarWidth = 'none'")
        browser.wait("return document.querySelector('.preview img')?.naturalWidth")
        spoken = "return !document.querySelector('.caption').hidden"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not browser.js(spoken):
            time.sleep(0.5)
        time.sleep(2)
        image = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
        image.quantize(COLORS).save(DOCS / f"live-view-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
