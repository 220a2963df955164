"""``train score``: the figures of a checkpoint, by file and threshold."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.metric.annotations import read_annotations
from train.__main__ import main
from train.data.features import FeatureCache, write_features
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.rollout.examination import Examination, figures


@pytest.fixture
def asked(tiny_model, tmp_path):
    """The arguments that name a checkpoint, a file of three questions with answers and one of two without."""
    tiny = tiny_model
    save_checkpoint(tmp_path / "tiny", tiny.model, tiny.tokenizer, tiny.stream_format, ["OU"], {}, {})
    cache = FeatureCache(tmp_path / "cache")
    files = {"answered.jsonl": [], "quiet.jsonl": []}
    for i in range(5):
        clip = tmp_path / f"{i}.mp4"
        clip.write_bytes(bytes([i]))
        pictures = np.random.default_rng(i).normal(size=(7, 320, 7, 7)).astype(np.float16)
        write_features(cache.path(clip), clip.name, 1.0, range(7), pictures)
        answers = [{"start": 2.0, "end": 3.0, "text": "nothing"}] if i < 3 else []
        record = {"id": f"q{i}", "video": clip.name, "duration": 7.0, "task": "OU", "answers": answers}
        line = json.dumps({**record, "query": {"time": 1.0, "text": "What?"}})
        files["answered.jsonl" if answers else "quiet.jsonl"].append(line)
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines))
    paths = [str(tmp_path / name) for name in ("tiny", *files)]
    return [*paths, "--cache", str(tmp_path / "cache")]


def test_figures_of_each_file_at_each_threshold(asked, tmp_path):
    result = CliRunner().invoke(
        main, ["score", *asked, "--json", "--threshold", "0.999", "--threshold", "0.001"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    quiet = found[str(tmp_path / "quiet.jsonl")]
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
    first, second = result.stdout.split("quiet.jsonl")
    assert "W-Avg" in first and "false alarms" not in first
    assert first.count("│ ceiling") == 1
    assert "false alarms" in second and "W-Avg" not in second and second.count("│ 0.5") == 1
