"""The comparison of decoders, from the command line to the files; no test says how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.external.runtimes import decode
from benchmarks.external.runtimes.engines.base import EngineSpec

TEXT = "Tell me each step as it is finished. The person cuts the tomato and washes the knife. " * 40


def test_agreement_is_the_divergence_of_distributions():
    reference = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)) + 3.0
    other = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]], np.float32))
    result = decode.agreement(reference, other)
    assert result["kl_mean"] == pytest.approx(
        0.5 * 0.25 * np.log(2), rel=1e-5
    )  # ln 2 (1/2 - 1/4), over two rows
    assert result["same_top"] == 0.5
    assert decode.agreement(reference, reference - 7)["kl_mean"] == pytest.approx(0, abs=1e-9)


def test_engines_of_one_label_are_told_apart():
    given = [EngineSpec(label, "ours", Path(f"b{i}"), 1, 10) for i, label in enumerate(["x", "x", "y", "x"])]
    found = decode.numbered(given)
    assert [spec.label for spec in found] == ["x", "x (2)", "y", "x (3)"]
    assert [spec.path for spec in found] == [spec.path for spec in given]


@pytest.mark.slow
def test_run_of_two_precisions_and_pytorch(tiny_model, tiny_bundle, tiny_bundle_fp32, tmp_path):
    for package in ("torch", "transformers", "geffnet", "matplotlib"):
        pytest.importorskip(package)
    from train.models.checkpoint import save_checkpoint

    checkpoint = tmp_path / "checkpoint"
    model = tiny_model.model
    save_checkpoint(checkpoint, model, tiny_model.tokenizer, tiny_model.stream_format, [], {}, {})
    (tmp_path / "text.txt").write_text(TEXT)
    arguments = ["--ours", str(tiny_bundle), "--ours", str(tiny_bundle_fp32), "--checkpoint", str(checkpoint)]
    arguments += ["--text", str(tmp_path / "text.txt"), "--context", "40", "--rounds", "2", "--threads", "1"]
    arguments += ["--out", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]
    outcome = CliRunner().invoke(decode.main, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    result = json.loads((tmp_path / "r.json").read_text())
    by_label = {engine["label"]: engine for engine in result["engines"]}
    assert list(by_label) == ["ours int8", "ours fp32", "torch eager fp32"]
    assert by_label["ours fp32"]["quality"]["against"] == "torch eager fp32"
    assert by_label["ours fp32"]["quality"]["kl_mean"] < 1e-6  # the same weights through another library
    assert by_label["ours fp32"]["quality"]["kl_mean"] < by_label["ours int8"]["quality"]["kl_mean"] < 0.05
    assert by_label["ours int8"]["weight_bytes"] < by_label["ours fp32"]["weight_bytes"]
    for engine in result["engines"]:
        assert [step["step"] for step in engine["steps"]] == ["chunk", "decode"]
        assert all(step["ms"]["n"] == 2 * (decode.REPEATS - 1) for step in engine["steps"])
    assert all(step["ratio"]["p50"] == 1.0 for step in by_label["ours int8"]["steps"])
    assert any("llama" in line for line in result["absent"])
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
