"""The file of a run in progress: what a kill at any byte leaves behind is continued rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import (
    Annotation,
    FormatError,
    Prediction,
    Query,
    Response,
    read_predictions,
)
from benchmarks.streampro.resume_log import ResumeLog
from edge_runtime.errors import ConfigError, SinkError

UNHURRIED = settings(deadline=None, max_examples=40)
SETTINGS: dict[str, Any] = {"bundle": "tiny", "threshold": 0.5}
QUESTIONS = [Annotation(f"q{i}", "v.mp4", 9.0, "EU", Query(0.0, "?"), ()) for i in range(4)]
ANSWERS = [Prediction(q.id, (Response(float(i), f"é\u2028{i}"),)) for i, q in enumerate(QUESTIONS)]


def test_finished_file_is_in_the_order_of_the_annotations(tmp_path: Path) -> None:
    out = tmp_path / "new/p.jsonl"
    with ResumeLog(out, SETTINGS) as partial:
        for answer in reversed(ANSWERS):
            partial.append(answer)
            assert not out.exists()
        partial.finish(QUESTIONS)
    assert read_predictions(out) == ANSWERS
    assert [p.name for p in out.parent.iterdir()] == ["p.jsonl"]


@UNHURRIED
@given(share=st.floats(0, 1))
def test_kill_at_any_byte(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    out = tmp_path_factory.mktemp("run") / "p.jsonl"
    with ResumeLog(out, SETTINGS) as partial:
        for answer in ANSWERS:
            partial.append(answer)
        path = partial.path
    data = path.read_bytes()
    kept = data[: round(share * len(data))]
    path.write_bytes(kept)
    with ResumeLog(out, SETTINGS) as partial:
        assert len(partial.done) == max(0, kept.count(b"\n") - 1)
        for answer in ANSWERS:
            if answer.id not in partial.done:
                partial.append(answer)
        partial.finish(QUESTIONS)
    assert read_predictions(out) == ANSWERS


def test_answer_is_kept_once(tmp_path: Path) -> None:
    with ResumeLog(tmp_path / "p.jsonl", SETTINGS) as partial:
        partial.append(ANSWERS[0])
        with pytest.raises(ValueError, match="q0"):
            partial.append(ANSWERS[0])


def test_other_settings_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    with ResumeLog(out, SETTINGS) as partial:
        partial.append(ANSWERS[0])
    with pytest.raises(ConfigError, match=r"other settings \(threshold\)"):
        ResumeLog(out, {**SETTINGS, "threshold": 0.6})
    with ResumeLog(out, SETTINGS) as partial:
        assert partial.done == {"q0": ANSWERS[0]}


def test_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.partial"
    path.write_text('{"id": "q0", "responses": []}\n')
    with pytest.raises(FormatError, match="line 1, key 'run'"):
        ResumeLog(tmp_path / "p.jsonl", SETTINGS)
    path.write_text(json.dumps({"run": SETTINGS}) + "\nnonsense\n")
    with pytest.raises(FormatError, match="line 2"):
        ResumeLog(tmp_path / "p.jsonl", SETTINGS)
    assert path.read_text().endswith("nonsense\n")


def test_finished_predictions_are_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    out.write_text("precious\n")
    with pytest.raises(ConfigError, match="exists already"):
        ResumeLog(out, SETTINGS)
    assert out.read_text() == "precious\n"


def test_two_runs_cannot_share_a_file(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    with ResumeLog(out, SETTINGS), pytest.raises(ConfigError, match="another run"):
        ResumeLog(out, SETTINGS)


def test_folder_that_is_a_file_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be written"):
        ResumeLog(tmp_path / "file/p.jsonl", SETTINGS)
