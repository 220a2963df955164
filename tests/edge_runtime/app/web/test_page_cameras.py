"""Cameras that are added and removed on the live page, in a real Chromium, with real video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import ENTER, Browser, needs_browser, open_browser
from tests.edge_runtime.app.web.page_actions import LIVE, ask
from tests.edge_runtime.app.web.served_run import served
from tests.edge_runtime.app.web.test_camera_changes import PASSWORD, rtsp_camera, running

pytestmark = [pytest.mark.slow, pytest.mark.gst, needs_browser]

NAMES = "[...document.querySelectorAll('.camera h2')].map((one) => one.textContent).join()"
WIDTHS = "[...document.querySelectorAll('.preview img')].map((one) => one.naturalWidth).join()"
REMOVE = "document.querySelector('[aria-label*=\"hall\"].remove')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


def add(browser: Browser, name: str, address: str, user: str = "", password: str = "") -> None:
    """With the keyboard; until the dialog is gone or says why not."""
    browser.js("document.getElementById('add-camera').focus()")
    browser.press(ENTER)
    browser.wait("return document.getElementById('new-camera').open")
    for field, text in (("name", name), ("source", address), ("user", user), ("password", password)):
        browser.js("document.getElementById('new-' + arguments[0]).value = arguments[1]", field, text)
    browser.js("document.getElementById('new-name').focus()")
    browser.press(ENTER)
    browser.wait(
        "const dialog = document.getElementById('new-camera');"
        "return !dialog.open || !dialog.querySelector('.error').hidden"
    )


def test_cameras_are_added_seen_asked_and_removed(
    browser: Browser, tiny_bundle: Path, tmp_path: Path
) -> None:
    """From a run without a camera; the preview is larger than the 64 pixels that the model sees."""
    with rtsp_camera() as address, running(tiny_bundle, tmp_path) as edge:
        browser.open(str(edge.client.base_url))
        browser.wait(f"{LIVE} && !document.getElementById('none').hidden")
        browser.log()
        add(browser, "hall", address, "viewer", PASSWORD)
        browser.wait(f"return {NAMES} === 'hall' && {WIDTHS} === '320'")
        assert browser.js("return document.getElementById('new-password').value") == ""
        ask(browser, "What do you see?")
        browser.js(
            "const slider = document.querySelector('.query input[type=range]');"
            "slider.value = 0;"
            "for (const type of ['input', 'change']) slider.dispatchEvent(new Event(type));"
        )
        browser.wait("return document.querySelector('#list > li')")

        add(browser, "yard", "test:ball")
        browser.wait(f"return {NAMES} === 'hall,yard' && {WIDTHS} === '320,640'")
        assert browser.log() == []
        add(browser, "yard", "test:ball")
        assert "watched already" in browser.js(
            "return document.querySelector('#new-camera .error').textContent"
        )
        browser.click("#no-camera")

        browser.js(f"{REMOVE}.focus()")
        browser.press(ENTER)
        browser.wait(f"return {REMOVE}.textContent === 'Press again to remove'")
        browser.press(ENTER)
        browser.wait(f"return {NAMES} === 'yard'")
        assert edge.names() == ["yard"]
        assert browser.js("return document.querySelector('#list > li') !== null")  # what it said stays

        assert edge.remove("yard") == 204  # by somebody else
        browser.wait("return !document.getElementById('none').hidden")
        assert edge.add("door", "test:").status_code == 201
        browser.wait(f"return {NAMES} === 'door'")


def test_what_is_not_allowed_is_not_offered(browser: Browser, model: object) -> None:
    with served(model) as run:
        browser.open(run.url)
        browser.wait(f"{LIVE} && document.body.classList.contains('fixed')")
        hidden = "return getComputedStyle(document.querySelector(arguments[0])).display === 'none'"
        assert browser.js(hidden, "#add-camera") and browser.js(hidden, ".camera .remove")
