"""A real Chromium without a window, driven over the WebDriver protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1200,900",
)
ENTER, ESCAPE = "\ue007", "\ue00c"


class Browser:
    """One headless window. ``js`` runs a function body in the page and returns its value."""

    def __init__(self, port: int, profile: Path) -> None:
        self._root = f"http://127.0.0.1:{port}/session"
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        started = self._call("", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/{started['sessionId']}"

    def open(self, url: str) -> None:
        self._call("/url", {"url": "about:blank"})
        self._call("/url", {"url": url})

    def js(self, body: str, *arguments: Any) -> Any:
        return self._call("/execute/sync", {"script": body, "args": list(arguments)})

    def wait(self, body: str, *arguments: Any) -> Any:
        """Until ``body`` gives something true."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            value = self.js(body, *arguments)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true in the page: {body}")

    def press(self, *keys: str) -> None:
        """To the element that has the focus."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def hover(self, selector: str) -> None:
        """Move the pointer onto the element once it has stopped moving: what is drawn above it shifts it."""
        self._point(selector)

    def click(self, selector: str) -> None:
        """Click the middle of the element, where a user would."""
        self._point(selector, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})

    def emulate(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._devtools("Emulation.setEmulatedMedia", media)

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """The size of the page in CSS pixels, and device pixels for each."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def screenshot(self) -> bytes:
        """What the window shows as PNG."""
        return base64.b64decode(self._call("/screenshot"))

    def log(self) -> list[str]:
        """Lines of the console since the last call: errors of the script and refusals of the policy."""
        return [line["message"] for line in self._call("/se/log", {"type": "browser"})]

    def quit(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self._root, method="DELETE"), timeout=30).close()

    def _point(self, selector: str, *then: dict[str, Any]) -> None:
        before, place = None, self._place(selector)
        while place != before:
            time.sleep(0.2)
            before, place = place, self._place(selector)
        move = {"type": "pointerMove", "duration": 0, "x": place[0], "y": place[1]}
        steps = [move, *then]
        self._call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": steps}]})

    def _place(self, selector: str) -> list[int]:
        """The middle of an element, scrolled into view: x and y in pixels of the window."""
        place: list[int] = self.js(
            "const e = document.querySelector(arguments[0]);"
            "e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect();"
            "return [Math.round(r.x + r.width / 2), Math.round(r.y + r.height / 2)]",
            selector,
        )
        return place

    def _devtools(self, command: str, parameters: dict[str, Any]) -> None:
        self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A window of its own; ``profile``: an empty folder."""
    assert DRIVER
    driver = subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout
        port = next(
            m for line in driver.stdout if (m := re.search(r"started successfully on port (\d+)", line))
        )
        window = Browser(int(port[1]), profile)
        yield window
        window.quit()
    finally:
        driver.terminate()
        driver.wait(timeout=30)
