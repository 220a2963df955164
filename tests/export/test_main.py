from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from edge_runtime.bundle import load_bundle
from export.__main__ import main


def test_a_folder_that_is_no_checkpoint_gives_one_line(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "bundle")])
    assert result.exit_code == 3
    assert result.output.splitlines()[-1].startswith("export: ")
    assert "config.json is missing" in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path), "--out", "x", "--precision", "int2"])
    assert result.exit_code == 2


@pytest.mark.slow
def test_checkpoint_to_bundle(tiny_model, tmp_path):
    pytest.importorskip("geffnet")
    from train.model.checkpoint import save_checkpoint

    checkpoint, out = tmp_path / "checkpoint", tmp_path / "bundle"
    parts = (tiny_model.model, tiny_model.tokenizer, tiny_model.protocol)
    save_checkpoint(checkpoint, *parts, tasks=["EU"], recipe={"steps": 1}, metrics={"f1": 0.1})
    arguments = [str(checkpoint), "--out", str(out), "--context-rows", "384", "--parity-timesteps", "40"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "parity with torch fp32 over 40 timesteps" in result.output
    assert load_bundle(out).name == "bundle"
    manifest = json.loads((out / "bundle.json").read_text())
    assert manifest["training"] == {"tasks": ["EU"], "recipe": {"steps": 1}, "metrics": {"f1": 0.1}}
