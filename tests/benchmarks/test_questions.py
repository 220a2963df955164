"""The fifty questions and the ones outside, against the knowledge of the training data."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from click.testing import CliRunner

from benchmarks.questions.__main__ import _read, main
from train.synthetic.detections.knowledge import describe_knowledge


def test_ten_questions_for_each_of_five_places_with_what_is_expected() -> None:
    fifty = _read("fifty.toml")["question"]
    assert Counter(one["place"] for one in fifty) == dict.fromkeys(
        ["door", "driveway", "living room", "shop", "kitchen"], 10
    )
    assert all(one.get("outside") is True or (one["event"] and one["subject"]) for one in fifty)
    assert len(set(_read("outside.toml")["questions"])) >= 100


def test_nine_of_ten_questions_outside_are_refused(tmp_path: Path) -> None:
    record = tmp_path / "knowledge.json"
    record.write_text(json.dumps(describe_knowledge()))
    done = CliRunner().invoke(main, [str(record), "--show"])
    assert done.exit_code == 0, done.output
    wrong, of = map(int, re.findall(r"outside\.toml: (\d+) of (\d+) accepted", done.output)[0])
    assert wrong <= 0.1 * of
    wrong, of = map(int, re.findall(r"answerable: (\d+) of (\d+) refused", done.output)[0])
    assert wrong <= 0.1 * of


def test_a_record_that_checks_nothing_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "knowledge.json"
    record.write_text('{"domain": "Cartoons."}')
    done = CliRunner().invoke(main, [str(record)])
    assert done.exit_code == 1 and "no question is checked" in done.output
