"""ProactiveVideoQA: what a record becomes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.external.formats.run import Options
from benchmarks.metric.annotations import (
    Answer,
)
from tests.benchmarks.external.formats.samples import (
    PROACTIVE,
    to_ours,
)


def test_proactivevideoqa(tmp_path: Path) -> None:
    (got,), outcome = to_ours(tmp_path, "proactivevideoqa", [PROACTIVE], Options({"": "AA"}))
    assert (got.id, got.task, got.duration) == (PROACTIVE["question_id"], "AA", PROACTIVE["duration"])
    assert got.answers[0] == Answer(343.61, 359.3, "At the door.")
    assert list(outcome.notes.lines()) == [
        "kept, but not part of the query: later turns of the conversation: 1 record (record 1)",
        "ProactiveVideoQA without a kind became AA: 1 record (record 1)",
    ]
