"""What people do on the live page, in a real browser."""

from __future__ import annotations

from typing import Any

from tests.browser import ENTER, Browser

END, HOME = "\ue010", "\ue011"
LIVE = "return document.getElementById('connection')?.textContent === 'live'"
ROW = (
    "[...document.querySelectorAll('.query')]"
    ".find(row => row.querySelector('.question').textContent === arguments[0])"
)
"""A question as an expression; its text is the first argument."""


def open_page(browser: Browser, url: str) -> None:
    """Until it is connected and shows a camera."""
    browser.open(url)
    browser.log()
    browser.wait(f"{LIVE} && document.querySelector('.camera')")


def ask(browser: Browser, text: str) -> None:
    """Type a question and press Enter; until the page lists it."""
    browser.click(".ask input")
    browser.js("document.querySelector('.ask input').value = arguments[0]", text[:-1])
    browser.press("\ue010", text[-1], ENTER)
    browser.wait(f"return {ROW}", text)


def act(browser: Browser, text: str, label: str) -> None:
    """Press a button of a question with the keyboard."""
    button = f"[...{ROW}.querySelectorAll('button')].find(one => one.textContent === arguments[1])"
    browser.wait(f"return {ROW} && {button}", text, label)
    browser.js(f"{button}.focus()", text, label)
    browser.press(ENTER)


def slide(browser: Browser, text: str, key: str) -> None:
    """Move the threshold of a question with a key."""
    browser.js(f"{ROW}.querySelector('input[type=range]').focus()", text)
    browser.press(key)


def shown_ids(browser: Browser) -> list[str]:
    """Ids of the responses in the list, the newest first."""
    found: list[str] = browser.js(
        "return [...document.querySelectorAll('#list > li')].map(li => li.dataset.id)"
    )
    return found


def row(browser: Browser, text: str) -> dict[str, Any] | None:
    """Score, threshold and note of a question as shown; None when it is not listed."""
    shown: dict[str, Any] | None = browser.js(
        f"const row = {ROW}; return row && {{score: row.querySelector('.score').textContent, "
        "threshold: row.querySelector('.number').textContent, note: row.querySelector('.note').textContent}",
        text,
    )
    return shown
