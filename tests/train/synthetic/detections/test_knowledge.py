"""What the data's language says a model knows, and that its own questions lie within that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_runtime.bundle.knowledge import Knowledge, read_knowledge
from train.synthetic.detections.__main__ import main
from train.synthetic.detections.facts import EVENT_KINDS
from train.synthetic.detections.knowledge import describe_knowledge
from train.synthetic.detections.language import ask, of_class, subjects


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    found = read_knowledge({"knowledge": describe_knowledge()}, "knowledge.json")
    assert found is not None
    return found


def test_examples_lie_within_it_and_the_others_outside(knowledge: Knowledge) -> None:
    for kind in knowledge.kinds:
        assert kind.examples
        for example in kind.examples:
            assert knowledge.unknown_words(example) == (), example
    for question in knowledge.not_examples:
        assert knowledge.unknown_words(question), question


@pytest.mark.parametrize("paraphrase", [False, True])
def test_nearly_no_question_of_the_data_is_refused(knowledge: Knowledge, paraphrase: bool) -> None:
    rng = np.random.default_rng(3)
    refused = []
    for _ in range(1000):
        kind = EVENT_KINDS[int(rng.integers(len(EVENT_KINDS)))]
        name = of_class(str(rng.choice(kind.of))).draw(rng, paraphrase)
        text = ask(rng, kind.name, name, paraphrase=paraphrase)
        refused += [text] if knowledge.unknown_words(text) else []
    assert len(refused) < 10, refused


def test_what_no_detector_sees_is_outside(knowledge: Knowledge) -> None:
    rng = np.random.default_rng(4)
    texts = [ask(rng, "enter", subjects()["unknown"].draw(rng, False)) for _ in range(300)]
    assert sum(bool(knowledge.unknown_words(text)) for text in texts) > 270


def test_the_command_and_the_data_have_the_same_record(tmp_path: Path) -> None:
    out = tmp_path / "checkpoint" / "knowledge.json"
    assert CliRunner().invoke(main, ["knowledge", "--out", str(out)]).exit_code == 0
    data = tmp_path / "data"
    arguments = ["generate", "--count", "1", "--workers", "1", "--out", str(data)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    written = json.loads(out.read_text())
    assert written == describe_knowledge() == json.loads((data / "knowledge.json").read_text())
