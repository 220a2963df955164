"""A small scored run that a page is made of, with texts that would be markup if anything let them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    Prediction,
    Query,
    Response,
    write_annotations,
    write_predictions,
)
from benchmarks.metric.tasks import TASKS
from benchmarks.streampro.run_metadata import metadata_path

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '<img src="x" onerror="window.pwned = 2">',
    "<!--<script>",
    "]]>\u2028'\"&amp;{{script}}",
    '"><svg onload="window.pwned = 3">',
)


@pytest.fixture
def run_files(
    write_run: Callable[[Path, int], tuple[Path, Path]], tmp_path: Path
) -> Callable[[int], tuple[Path, Path]]:
    """As ``write_run``, in the folder of the test."""
    return lambda count: write_run(tmp_path, count)


@pytest.fixture(scope="session")
def write_run() -> Callable[[Path, int], tuple[Path, Path]]:
    """Writes annotations and predictions of some questions of every task; the last one has no prediction."""

    def write(folder: Path, count: int) -> tuple[Path, Path]:
        random = Random(7)
        annotations, predictions = folder / "a.jsonl", folder / "p.jsonl"
        questions, said = [], []
        for number in range(count):
            task = list(TASKS)[number % len(TASKS)]
            starts = sorted(random.sample(range(5, 50), random.randint(1, 4)))
            words = [
                f"event {number}.{i}" if random.random() < 0.8 else HOSTILE[i] for i in range(len(starts))
            ]
            answers = [
                Answer(s, s + 2, f"{s}s-{s + 2}s" if task == "TG" else w)
                for s, w in zip(starts, words, strict=True)
            ]
            query = Query(float(random.randint(0, 4)), f"{HOSTILE[number % len(HOSTILE)]} question {number}")
            questions.append(Annotation(f"<b>{number}</b>/q1", "v.mp4", 60.0, task, query, tuple(answers)))
            if number == count - 1:
                continue
            responses = [
                Response(
                    float(a.end + random.randint(-1, 4)), a.text if random.random() < 0.7 else HOSTILE[0]
                )
                for a in answers
                if random.random() < 0.8
            ]
            scores = [[float(t), round(random.random(), 4)] for t in range(1, 61)]
            said.append(Prediction(questions[-1].id, tuple(responses), extra={"scores": scores}))
        write_annotations(annotations, questions)
        write_predictions(predictions, said)
        return annotations, predictions

    return write


@pytest.fixture
def run_facts() -> Callable[[Path], None]:
    """Writes facts of a run beside its predictions."""

    def write(predictions: Path) -> None:
        facts = {
            "run": {"bundle": "nano", "threshold": 0.4, "annotations_sha256": "0" * 64},
            "bundle": {"name": "nano", "precision": "int8", "bytes": 12_300_000, "parity": {}},
        }
        metadata_path(predictions).write_text(json.dumps(facts))

    return write
