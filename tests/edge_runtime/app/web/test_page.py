"""The live page in a real Chromium, on a run with a real model whose frames come on a beat."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.app.run.run_spec import WatchedCamera
from edge_runtime.app.web.config import WebConfig
from edge_runtime.bundle.knowledge import Knowledge, KnownClass, KnownKind
from edge_runtime.config.cameras import CameraConfig
from edge_runtime.video.zones import Zone
from tests.browser import ENTER, Browser, needs_browser, open_browser
from tests.edge_runtime.app.web import served_run
from tests.edge_runtime.app.web.page_actions import (
    END,
    HOME,
    LIVE,
    act,
    ask,
    open_page,
    row,
    shown_ids,
    slide,
)
from tests.edge_runtime.app.web.served_run import QUESTION, TOKEN, ServedRun, served, with_token

pytestmark = [pytest.mark.slow, needs_browser]

BEAT_S = 0.25


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture(autouse=True)
def beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_run, "BEAT_S", BEAT_S)


@pytest.fixture
def run(model: Any) -> Iterator[ServedRun]:
    with served(model) as run:
        yield run


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_camera_its_frame_its_score_and_its_responses(browser: Browser, run: ServedRun) -> None:
    open_page(browser, run.url)
    browser.wait("return document.querySelector('.preview img')?.naturalWidth === 64")
    seen = "return document.querySelector('.preview img').src"
    first = browser.js(seen)
    browser.wait(f"{seen} !== arguments[0]", first)
    browser.wait("return /p50 .* dropped/.test(document.querySelector('.facts').textContent)")
    assert row(browser, QUESTION.text)
    browser.wait("return document.querySelectorAll('#list > li').length > 2")
    ids = [event["id"] for event in run.responses()]
    assert all(id in ids for id in shown_ids(browser))
    # Ink of the curve, beside that of the grid.
    browser.wait(
        "const c = document.querySelector('.timeline canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let blue = 0; for (let i = 0; i < d.length; i += 4) blue += d[i + 3] > 200 && d[i + 2] > d[i] + 80;"
        "return blue > 50"
    )
    label = browser.js("return document.querySelector('.timeline canvas').getAttribute('aria-label')")
    assert "q1: score 0." in label and "Responses: 0" not in label
    assert browser.log() == []


def test_asked_on_the_page_and_in_force_at_the_next_timestep(browser: Browser, run: ServedRun) -> None:
    open_page(browser, run.url)
    before = run.runner.telemetry.timesteps
    ask(browser, "How many red cars are there?")
    asked = next(one for one in run.control.queries("door") if one.text == "How many red cars are there?")
    run.wait_for(2)
    assert run.control.query("door", asked.id).asked and run.runner.telemetry.timesteps > before
    slide(browser, asked.text, HOME)  # a threshold of 0: it responds at every timestep
    until(lambda: run.control.query("door", asked.id).threshold == 0)
    until(lambda: run.responses(asked.id))
    browser.wait("return document.querySelector('#list').textContent.includes('How many red cars')")
    slide(browser, asked.text, END)
    until(lambda: run.control.query("door", asked.id).threshold == 1)
    count = len(run.responses(asked.id))
    run.wait_for(4)
    assert len(run.responses(asked.id)) <= count + 1  # one may have been under way
    assert (row(browser, asked.text) or {})["threshold"] == "1.00"
    assert browser.log() == []


def test_pause_resume_delete_and_ask_again(browser: Browser, run: ServedRun) -> None:
    open_page(browser, run.url)
    act(browser, QUESTION.text, "Pause")
    until(lambda: run.control.query("door", "q1").paused)
    browser.wait("return document.querySelector('.query .score').textContent === 'paused'")
    act(browser, QUESTION.text, "Resume")
    until(lambda: not run.control.query("door", "q1").paused)
    act(browser, QUESTION.text, "Delete")
    until(lambda: not run.control.queries("door"))
    browser.wait("return !document.querySelector('.query')")
    browser.click("#toast button")
    browser.wait("return document.querySelector('.query')")
    (again,) = run.control.queries("door")
    assert again.text == QUESTION.text and again.policy == QUESTION.policy and again.id != "q1"
    assert browser.log() == []


def test_what_others_change_is_shown(browser: Browser, run: ServedRun) -> None:
    open_page(browser, run.url)
    with run.client() as client:
        client.patch("/api/v1/cameras/door/queries/q1", json={"threshold": 0.73})
    browser.wait("return document.querySelector('.query .number')?.textContent === '0.73'")


def test_no_text_becomes_code(browser: Browser, run: ServedRun) -> None:
    open_page(browser, run.url)
    hostile = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
    ask(browser, hostile)
    slide(browser, hostile, HOME)
    browser.wait("return document.querySelector('#list').textContent.includes('<script>')")
    act(browser, hostile, "Delete")
    browser.wait("return document.querySelector('#toast').textContent.includes('<img')")
    assert browser.js("return String(window.pwned)") == "undefined"
    assert browser.js("return document.querySelectorAll('script').length") == 1
    assert browser.js("return document.querySelectorAll('img[src=x]').length") == 0
    # And no script but the server's own files would run.
    inline = "Object.assign(document.createElement('script'), {text: 'window.pwned = 1'})"
    browser.js(f"document.body.append({inline})")
    assert browser.js("return String(window.pwned)") == "undefined"
    assert any("Content Security Policy" in line for line in browser.log())


def test_a_server_that_starts_again_loses_no_event(browser: Browser, model: Any, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with served(model, file=file) as run:
        url = run.url
        open_page(browser, url)
        browser.wait("return document.querySelectorAll('#list > li').length > 2")
        run.wait_for(2)
    browser.wait("return document.querySelector('#connection').textContent === 'reconnecting'")
    port = int(url.rpartition(":")[2])
    with served(model, WebConfig(("127.0.0.1", port)), file=file) as again:
        again.wait_for(2)  # events that happen before the page is back
        browser.wait(LIVE)
        newest = again.responses()[-1]["id"]
        browser.wait('return document.querySelector(`#list [data-id="${arguments[0]}"]`) !== null', newest)
        shown = shown_ids(browser)
    wanted = [event["id"] for event in (*run.responses(), *again.responses())]
    missing = set(wanted[: wanted.index(newest) + 1]) - set(shown)
    assert not missing and len(set(shown)) == len(shown)
    assert shown == sorted(shown, reverse=True)  # the newest first


def test_log_in_with_a_token(browser: Browser, model: Any, tmp_path: Path) -> None:
    with served(model, with_token(tmp_path)) as run:
        browser.open(run.url)
        browser.wait("return document.querySelector('dialog[open]') !== null")
        assert browser.js("return document.querySelectorAll('.camera').length") == 0
        browser.press(*"a wrong one", ENTER)
        browser.wait(
            "return document.querySelector('dialog .error').textContent.includes('the token is wrong')"
        )
        browser.js("document.getElementById('token').value = ''; document.getElementById('token').focus()")
        browser.press(*TOKEN, ENTER)
        browser.wait(f"{LIVE} && document.querySelector('.query')")
        assert TOKEN not in browser.js("return document.documentElement.outerHTML + document.cookie")
        browser.open(run.url)  # the cookie holds
        browser.wait(LIVE)
        browser.click("#logout")
        browser.wait("return document.querySelector('dialog[open]') !== null")


def test_a_question_outside_what_the_model_knows(browser: Browser, model: Any) -> None:
    known = Knowledge(
        "Cats in gardens.",
        classes=(KnownClass("cat"),),
        kinds=(KnownKind("appears", ("Tell me when a cat comes.",), ("cat",), ("tell", "comes")),),
    )
    taught = copy.copy(model)
    taught.bundle = replace(model.bundle, knowledge=known)
    with served(taught) as run:
        open_page(browser, run.url)
        browser.wait("return document.querySelector('#knowledge').textContent.includes('Cats in gardens.')")
        text = "Tell me when a zeppelin comes."
        ask(browser, text)
        until(lambda: "“zeppelin”" in (row(browser, text) or {})["note"])
        assert (row(browser, text) or {})["score"] == "paused"
        act(browser, text, "Ask anyway")
        until(lambda: not run.control.queries("door")[-1].paused)
        browser.click("#knowledge summary")
        browser.click("#knowledge button")
        assert browser.js("return document.querySelector('.ask input').value") == "Tell me when a cat comes."


def test_zones_are_drawn_in_the_frame(browser: Browser, run: ServedRun) -> None:
    left = Zone("the gate", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    config = CameraConfig("door", "test:", zones=(left,))
    run.control.watch([WatchedCamera(config, run.runner, run.camera)])
    open_page(browser, run.url)
    browser.wait("return document.querySelector('.zone-names').textContent === 'the gate'")
    box = "document.querySelector('.preview').getBoundingClientRect()"
    zone = "document.querySelector('.preview polygon').getBoundingClientRect()"
    assert abs(browser.js(f"return {zone}.width / {box}.width") - 0.5) < 0.02
    assert abs(browser.js(f"return {zone}.left - {box}.left")) < 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_at_phone_width(browser: Browser, run: ServedRun, scheme: str) -> None:
    """Nothing is cut off, and texts keep a contrast of 4.5 to their ground."""
    browser.emulate(scheme)
    browser.resize(360, 740)
    try:
        open_page(browser, run.url)
        ask(browser, "W" * 60)
        assert browser.js("return document.documentElement.scrollWidth") <= 360
        low = browser.js(CONTRAST)
        assert low == []
    finally:
        browser.emulate("light")
        browser.resize(1200, 900)


CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const color = rgb(getComputedStyle(node).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const low = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.checkVisibility() || node.closest('.preview, .query.paused')) continue;
  const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) low.push([node.className, node.textContent.slice(0, 30), contrast]);
}
return low;
"""
