"""The page in a real browser, driven over the WebDriver protocol: it draws, filters, and trusts no text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.streampro.__main__ import cli
from tests.browser import ENTER, ESCAPE, Browser, needs_browser, open_browser

pytestmark = [pytest.mark.slow, needs_browser]

QUESTIONS = 1300


def choose(browser: Browser, name: str, value: str | bool) -> None:
    """Set a field of the controls as a user would."""
    browser.js(
        "const f = document.getElementById('controls').elements[arguments[0]];"
        "f[f.type === 'checkbox' ? 'checked' : 'value'] = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


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
    browser.open(page.as_uri())
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
    choose(browser, "task", "PU")
    count = sum(q["task"] in ("EU", "OU", "AA") for q in questions)
    browser.wait(f"{cards} === arguments[0]", count)
    choose(browser, "task", "all")
    choose(browser, "failures", True)
    browser.wait(f"{cards} === arguments[0]", sum(q["failed"] for q in questions))
    assert browser.js("return location.hash") == "#failures=true"
    choose(browser, "failures", False)
    choose(browser, "outcome", "missing")
    browser.wait(f"{cards} === 1")
    for verdict in ("right", "partial", "wrong", "surplus", "outside"):
        count = sum(any(r["verdict"] == verdict for r in q["responses"]) for q in questions)
        choose(browser, "outcome", verdict)
        browser.wait(f"{cards} === arguments[0]", count)
    choose(browser, "outcome", "any")
    choose(browser, "order", "best")
    best = sorted(questions, key=lambda q: -q["f1"])[0]["id"]
    browser.wait(f"{first} === arguments[0]", best)
    browser.js("document.activeElement.blur()")
    browser.press("/", *"Question <B>77</B>")  # words in any order and case
    browser.wait(f"{cards} === 1")
    browser.wait(f"{first} === arguments[0]", "<b>77</b>/q1")
    choose(browser, "search", "nothing has these words")
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
    choose(browser, "words", True)
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
    browser.open(crowded.as_uri())
    labels, crossing = browser.js(CROSSINGS)
    assert labels == len(data["report"]["tasks"]) >= 7
    assert not crossing


def test_light_and_dark(browser: Browser, page: Path) -> None:
    light = "return getComputedStyle(document.body).backgroundColor"
    browser.open(page.as_uri())
    browser.emulate("light")
    assert browser.js(light) == "rgb(247, 248, 249)"
    browser.emulate("dark")
    assert browser.js(light) == "rgb(19, 23, 27)"


def test_choices_in_the_address(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri() + "#task=RF&failures=true&constructor=1&order=none")
    form = "return document.getElementById('controls').elements"
    browser.wait("return document.querySelectorAll('#list .card').length > 0")
    assert browser.js(f"{form}.task.value") == "RF" and browser.js(f"{form}.failures.checked")
    assert browser.js(f"{form}.order.value") == "file"
    assert browser.log() == []
