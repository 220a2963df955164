"""The threshold that is written into a checkpoint."""

import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from train.__main__ import main
from train.rollout.threshold import GRID, best_threshold


def found(f1: float, rate: float) -> dict:
    return {"f1": {"W-Avg": f1}, "false_alarms": {"per_minute": rate}}


def test_best_f1_within_the_limit_wins() -> None:
    figures = {0.5: found(60, 3.0), 0.9: found(55, 0.25), 0.95: found(58, 0.2), 0.99: found(30, 0.0)}
    assert best_threshold(figures, 0.3) == 0.95
    assert best_threshold(figures, 5.0) == 0.5
    assert best_threshold({0.5: found(60, 3.0), 0.9: found(50, 1.0)}, 0.3) == 0.9  # the quietest


def test_questions_of_one_kind_cannot_tell() -> None:
    with pytest.raises(click.ClickException, match="questions without"):
        best_threshold({0.5: {"f1": {"W-Avg": 1.0}}}, 0.3)


def test_it_is_written_into_the_checkpoint(asked: list[str], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(asked[0], checkpoint)
    result = CliRunner().invoke(main, ["calibrate", str(checkpoint), *asked[1:], "--questions", "2"])
    assert result.exit_code == 0, result.output
    threshold = json.loads((checkpoint / "config.json").read_text())["protocol"]["threshold"]
    assert threshold in GRID
    assert f"threshold {threshold:g}" in result.stdout
