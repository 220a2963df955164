"""``train score``: the figures of a checkpoint, by file and threshold."""

import json

from click.testing import CliRunner

from benchmarks.metric.annotations import read_annotations
from train.__main__ import main
from train.models.checkpoint import load_checkpoint
from train.rollout.examination import Examination, figures


def test_figures_of_each_file_at_each_threshold(asked, tmp_path):
    result = CliRunner().invoke(
        main, ["score", *asked, "--json", "--threshold", "0.999", "--threshold", "0.001"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    quiet = found[str(tmp_path / "negatives.jsonl")]
    assert quiet["0.999"]["false_alarms"]["responses"] < quiet["0.001"]["false_alarms"]["responses"]
    assert "f1" not in quiet["0.001"] and quiet["0.001"]["questions"] == 2

    answered = tmp_path / "answered.jsonl"
    examination = Examination(load_checkpoint(tmp_path / "tiny"), [answered], tmp_path / "cache")
    said = examination.ask(examination.annotations, 0.001)
    assert sum(len(prediction.responses) for prediction in said) > 3
    assert found[str(answered)]["0.001"] == figures(read_annotations(answered), said, bootstrap=2000)


def test_table_at_the_checkpoints_own_threshold(asked):
    result = CliRunner().invoke(main, ["score", *asked, "--questions", "1", "--ceiling"])
    assert result.exit_code == 0, result.output
    first, second = result.stdout.split("negatives.jsonl")
    assert "W-Avg" in first and "false alarms" not in first
    assert first.count("│ ceiling") == 1
    assert "false alarms" in second and "W-Avg" not in second and second.count("│ 0.5") == 1
