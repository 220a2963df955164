"""The page holds the figures of the score, needs no network, and turns no text of the data into markup."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.metric import baselines
from benchmarks.metric.annotations import FormatError, read_annotations, read_predictions
from benchmarks.metric.judges import ExactJudge
from benchmarks.metric.score import METRICS, score
from benchmarks.streampro import report
from benchmarks.streampro.__main__ import cli
from benchmarks.streampro.page.data import Scored, build, summary
from benchmarks.streampro.page.render import render

Files = Callable[[int], tuple[Path, Path]]


class Page(HTMLParser):
    """Tags with their attributes, and the text inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.texts[-1] += data

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.texts[1])  # style, data, script


def plot(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["plot", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def page(run_files: Files, tmp_path: Path) -> tuple[Path, Path, str]:
    annotations, predictions = run_files(18)
    out = tmp_path / "out/page.html"
    result = plot(
        "--annotations", annotations, "--predictions", predictions, "--out", out, "--bootstrap", 200
    )
    assert (result.exit_code, result.output) == (0, "")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    return annotations, predictions, out.read_text(encoding="utf-8")


def test_figures_are_those_of_the_score(page: tuple[Path, Path, str]) -> None:
    questions, said = read_annotations(page[0]), read_predictions(page[1])
    data = Page(page[2]).data
    expected = score(questions, said, ExactJudge(), bootstrap=200)
    plain = json.loads(json.dumps(expected.to_dict()))
    scored = {question["id"]: question for question in plain.pop("questions")}
    assert data["report"] == plain
    assert [question["id"] for question in data["questions"]] == [question.id for question in questions]
    for question in data["questions"]:
        mine = scored[question["id"]]
        assert {name: question[name] for name in (*METRICS, "missing")} == {
            name: mine[name] for name in (*METRICS, "missing")
        }
        worth = sum(
            a["match"]["time_score"] * a["match"]["accuracy"] for a in question["answers"] if a["match"]
        )
        assert mine["recall"] == pytest.approx(worth / len(question["answers"]))
        assert len(question["responses"]) == mine["responses"]
    assert [row["cells"] for row in data["table"]["rows"]] == [
        list(row) for row in report.score_rows(expected)
    ]
    assert data["questions"][-1]["missing"] and data["questions"][-1]["scores"] is None


def test_baselines_are_those_of_the_score(page: tuple[Path, Path, str]) -> None:
    questions = read_annotations(page[0])
    data = Page(page[2]).data
    prior = baselines.Prior.count(questions, "the scored file itself (a.jsonl)")
    for name, each in data["baselines"]["scores"].items():
        expected = score(questions, baselines.predict(name, questions, prior), ExactJudge(), bootstrap=0)
        assert expected.weighted and expected.average
        assert each == {"weighted": expected.weighted.f1, "average": expected.average.f1}
    best = max(each["weighted"] for each in data["baselines"]["scores"].values())
    assert f"has {report.points(best)}." in data["summary"]
    assert any("the scored file itself (a.jsonl)" in note for note in data["notes"])
    assert str(page[0].parent) not in page[2]  # a page is passed on: it names files, not folders


def test_timing_counts_every_response_and_timestep(page: tuple[Path, Path, str]) -> None:
    data = Page(page[2]).data
    for code, each in data["earliness"].items():
        responses = [r for q in data["questions"] if q["task"] == code for r in q["responses"]]
        assert sum(each["inside"]) == sum(r["answer"] is not None for r in responses)
        assert sum(each["outside"]) == sum(r["answer"] is None for r in responses)
    steps = [t for q in data["questions"] if q["scores"] for t in q["scores"][0]]
    assert data["reliability"]["timesteps"] == len(steps) > 0
    assert all(min(q["scores"][0]) >= q["asked"] for q in data["questions"] if q["scores"])


def test_no_text_becomes_markup_and_nothing_is_fetched(page: tuple[Path, Path, str]) -> None:
    parsed = Page(page[2])
    assert len(parsed.find("script")) == 2 and len(parsed.find("style")) == 1
    assert not parsed.find("img") and not parsed.find("svg") and not parsed.find("b")
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert re.findall(r"https?://[^\s\"']+", page[2]) == ["http://www.w3.org/2000/svg"]  # a name, not a link
    texts = [
        text for q in parsed.data["questions"] for text in (q["query"], *(r["text"] for r in q["responses"]))
    ]
    assert any("</script><script>" in text for text in texts)
    assert any("\u2028" in text and "{{script}}" in text for text in texts)


def test_policy_allows_the_pages_own_script_only(page: tuple[Path, Path, str]) -> None:
    parsed = Page(page[2])
    policy = next(m["content"] for m in parsed.find("meta") if "http-equiv" in m)
    style, _, script = parsed.texts

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy == (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'"
    )
    assert "innerHTML" not in script and "eval(" not in script


def test_same_files_give_the_same_page(run_files: Files, tmp_path: Path) -> None:
    annotations, predictions = run_files(9)
    for name in ("one.html", "two.html"):
        plot("--annotations", annotations, "--predictions", predictions, "--out", tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_facts_of_the_run(run_files: Files, run_facts: Callable[[Path], None], tmp_path: Path) -> None:
    annotations, predictions = run_files(9)
    arguments = ("--annotations", annotations, "--predictions", predictions, "--out", tmp_path / "p.html")
    plot(*arguments)
    data = Page((tmp_path / "p.html").read_text()).data
    assert ["model", "not recorded"] in data["facts"] and data["threshold"] is None and data["title"] == "p"
    run_facts(predictions)
    plot(*arguments)
    data = Page((tmp_path / "p.html").read_text()).data
    assert ["model", "nano \u00b7 int8"] in data["facts"] and ["size", "12.3 MB"] in data["facts"]
    assert data["threshold"] == 0.4 and data["title"] == "nano"
    assert data["notes"][0] == "the run answered another version of the annotations than a.jsonl"
    plot(*arguments, "--title", "</title><b>")
    html = (tmp_path / "p.html").read_text()
    assert "<title>&lt;/title&gt;&lt;b&gt;</title>" in html and not Page(html).find("b")


def test_scores_are_optional(run_files: Files, tmp_path: Path) -> None:
    annotations, predictions = run_files(9)
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    predictions.write_text("".join(json.dumps({**line, "scores": []}) + "\n" for line in lines))
    out = tmp_path / "p.html"
    assert plot("--annotations", annotations, "--predictions", predictions, "--out", out).exit_code == 0
    assert Page(out.read_text()).data["reliability"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {}}, r"line 1, key 'scores': expected a list"),
        ({"scores": [[1.0, 0.5], [2.0]]}, r"key 'scores\[1\]': expected two numbers"),
        ({"scores": [[1.0, True]]}, r"key 'scores\[0\]': expected two numbers"),
        ({"scores": [[1.0, 1.5]]}, r"key 'scores\[0\]': expected a time from 0 and a score in 0\.\.1"),
        ({"responses": [{"time": 3, "text": "", "score": "high"}]}, r"key 'responses\[0\]\.score'"),
    ],
)
def test_bad_scores_are_named(run_files: Files, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    annotations, predictions = run_files(3)
    first, *rest = predictions.read_text().splitlines(keepends=True)
    predictions.write_text("".join([json.dumps({**json.loads(first), **change}) + "\n", *rest]))
    with pytest.raises(FormatError, match=message):
        plot("--annotations", annotations, "--predictions", predictions, "--out", tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_training_tasks_alone_have_no_average(run_files: Files) -> None:
    annotations, predictions = run_files(9)
    questions = [dataclasses.replace(q, task="EC") for q in read_annotations(annotations)]
    found = score(questions, read_predictions(predictions), ExactJudge(), bootstrap=0)
    assert summary(found, {}).startswith("No question belongs")
    data = build(Scored("t", questions, read_predictions(predictions), ExactJudge(), found, {}, "x"))
    assert [row["key"] for row in data["table"]["rows"]] == ["EC"]
    assert Page(render(data)).data["report"]["weighted"] is None
