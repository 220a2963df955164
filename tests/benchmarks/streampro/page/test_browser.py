"""The page in a real browser, driven over the WebDriver protocol: it draws, filters, and trusts no text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.streampro.__main__ import cli

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver"),
]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1200,900",
)
QUESTIONS = 1300
ENTER, ESCAPE = "\ue007", "\ue00c"


class Browser:
    """One headless window. ``js`` runs a function body in the page and returns its value."""

    def __init__(self, port: int, profile: Path) -> None:
        self._root = f"http://127.0.0.1:{port}/session"
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        started = self._call("", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/{started['sessionId']}"

    def open(self, page: Path, fragment: str = "") -> None:
        self._call("/url", {"url": "about:blank"})
        self._call("/url", {"url": page.as_uri() + fragment})

    def js(self, body: str, *arguments: Any) -> Any:
        return self._call("/execute/sync", {"script": body, "args": list(arguments)})

    def wait(self, body: str, *arguments: Any) -> Any:
        """Until ``body`` gives something true."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            value = self.js(body, *arguments)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true in the page: {body}")

    def press(self, *keys: str) -> None:
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def hover(self, selector: str) -> None:
        """Move the pointer onto the element once it has stopped moving: what is drawn above it shifts it."""
        before, place = None, self._place(selector)
        while place != before:
            time.sleep(0.2)
            before, place = place, self._place(selector)
        move = {"type": "pointerMove", "duration": 0, "x": place[0], "y": place[1]}
        self._call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

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

    def choose(self, name: str, value: str | bool) -> None:
        """Set a field of the controls as a user would."""
        self.js(
            "const f = document.getElementById('controls').elements[arguments[0]];"
            "f[f.type === 'checkbox' ? 'checked' : 'value'] = arguments[1];"
            "f.dispatchEvent(new Event('input', {bubbles: true}))",
            name,
            value,
        )

    def emulate(self, scheme: str) -> None:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": media})

    def log(self) -> list[str]:
        """Lines of the console since the last call: errors of the script and refusals of the policy."""
        return [line["message"] for line in self._call("/se/log", {"type": "browser"})]

    def quit(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self._root, method="DELETE"), timeout=30).close()

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._root + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert DRIVER
    driver = subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout
        port = next(
            m for line in driver.stdout if (m := re.search(r"started successfully on port (\d+)", line))
        )
        window = Browser(int(port[1]), tmp_path_factory.mktemp("profile"))
        yield window
        window.quit()
    finally:
        driver.terminate()
        driver.wait(timeout=30)


@pytest.fixture(scope="module")
def page(
    write_run: Callable[[Path, int], tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("page")
    annotations, predictions = write_run(folder, QUESTIONS)
    out = folder / "page.html"
    arguments = ("--annotations", annotations, "--predictions", predictions, "--out", out, "--bootstrap", 50)
    CliRunner().invoke(cli, ["plot", *map(str, arguments)], catch_exceptions=False)
    return out


def test_page_in_a_browser(browser: Browser, page: Path) -> None:
    browser.open(page)
    cards = "return document.querySelectorAll('#list .card').length"
    drawn = "return document.querySelectorAll('#list .timeline').length"
    assert browser.js(cards) == QUESTIONS
    browser.js("document.getElementById('questions').scrollIntoView()")
    browser.wait(f"{drawn} > 0")
    assert browser.js(drawn) < 60  # only what is near the screen
    data = browser.js("return JSON.parse(document.getElementById('data').textContent)")
    questions = data["questions"]
    rows = browser.js("return document.querySelectorAll('.score-table tbody tr').length")
    assert rows == len(data["table"]["rows"])

    # Filters, order and search.
    first = "return document.querySelector('#list .card code')?.textContent"
    browser.choose("task", "PU")
    count = sum(q["task"] in ("EU", "OU", "AA") for q in questions)
    browser.wait(f"{cards} === arguments[0]", count)
    browser.choose("task", "all")
    browser.choose("failures", True)
    browser.wait(f"{cards} === arguments[0]", sum(q["failed"] for q in questions))
    assert browser.js("return location.hash") == "#failures=true"
    browser.choose("failures", False)
    browser.choose("outcome", "missing")
    browser.wait(f"{cards} === 1")
    for verdict in ("right", "partial", "wrong", "surplus", "outside"):
        count = sum(any(r["verdict"] == verdict for r in q["responses"]) for q in questions)
        browser.choose("outcome", verdict)
        browser.wait(f"{cards} === arguments[0]", count)
    browser.choose("outcome", "any")
    browser.choose("order", "best")
    best = sorted(questions, key=lambda q: -q["f1"])[0]["id"]
    browser.wait(f"{first} === arguments[0]", best)
    browser.js("document.activeElement.blur()")
    browser.press("/", *"Question <B>77</B>")  # words in any order and case
    browser.wait(f"{cards} === 1")
    browser.wait(f"{first} === arguments[0]", "<b>77</b>/q1")
    browser.choose("search", "nothing has these words")
    browser.wait("return document.querySelector('#list .nothing') !== null")
    browser.js("document.querySelector('#controls button[type=reset]').click()")
    browser.wait(f"{cards} === arguments[0]", QUESTIONS)

    # Hover, keyboard, words.
    browser.hover("#list .mark")
    tip = "return document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
    assert browser.wait(tip).startswith("Said \u201c")
    browser.press(ESCAPE)
    assert browser.js(tip) == ""
    browser.js("document.querySelector('#list summary').focus()")
    browser.press(ENTER)
    assert "True answers" in browser.wait("return document.querySelector('#list .words')?.textContent")
    browser.choose("words", True)
    browser.wait("return [...document.querySelectorAll('#list .card > details')].every(d => d.open)")

    # Draw everything; no text of the data has run or become an element.
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.js(drawn) == QUESTIONS
    assert browser.js("return String(window.pwned)") == "undefined"
    assert browser.js("return document.querySelectorAll('img, script:not([type])').length") == 1
    text = browser.js("return document.getElementById('list').textContent")
    assert "</script><script>window.pwned = 1</script>" in text and '<img src="x" onerror=' in text
    assert browser.js("return performance.getEntriesByType('resource').length") == 0
    assert browser.log() == []


CROSSINGS = """
const labels = [...document.querySelectorAll('.plot text.label')];
const boxes = labels.map((label) => label.getBoundingClientRect());
const cross = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3;
return [boxes.length, boxes.some((a, i) => boxes.some((b, j) => i < j && cross(a, b)))];
"""


def test_labels_of_tasks_with_like_scores_do_not_cross(browser: Browser, page: Path, tmp_path: Path) -> None:
    html = page.read_text()
    marked = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert marked
    data = json.loads(marked[1])
    for task in data["report"]["tasks"].values():
        task["precision"] = task["recall"] = 0.03  # all in one point
    crowded = tmp_path / "crowded.html"
    crowded.write_text(html.replace(marked[1], json.dumps(data).replace("<", "\\u003c")))
    browser.open(crowded)
    labels, crossing = browser.js(CROSSINGS)
    assert labels == len(data["report"]["tasks"]) >= 7
    assert not crossing


def test_light_and_dark(browser: Browser, page: Path) -> None:
    light = "return getComputedStyle(document.body).backgroundColor"
    browser.open(page)
    browser.emulate("light")
    assert browser.js(light) == "rgb(247, 248, 249)"
    browser.emulate("dark")
    assert browser.js(light) == "rgb(19, 23, 27)"


def test_choices_in_the_address(browser: Browser, page: Path) -> None:
    browser.open(page, "#task=RF&failures=true&constructor=1&order=none")
    form = "return document.getElementById('controls').elements"
    browser.wait("return document.querySelectorAll('#list .card').length > 0")
    assert browser.js(f"{form}.task.value") == "RF" and browser.js(f"{form}.failures.checked")
    assert browser.js(f"{form}.order.value") == "file"
    assert browser.log() == []
