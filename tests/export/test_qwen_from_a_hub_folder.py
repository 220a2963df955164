"""From a transformers folder to events: `train init-backbone qwen`, `python -m export`, `edge-run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "edge_runtime" / "samples" / "sample.mp4"


def run(*arguments: object, cwd: Path) -> str:
    command = [sys.executable, "-m", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, tuple[int, int]]:
    """A folder as the hub holds one, in bfloat16, and the size of a frame."""
    from transformers import PreTrainedTokenizerFast

    from tests.train.chat import chat_tokenizer
    from tests.train.models.test_qwen import PICTURES, Tiny

    (tmp_path / "tower").mkdir()
    tiny = Tiny(request.param, tied=request.param == "qwen2_5_vl", folder=tmp_path / "tower")
    tiny.whole.bfloat16().save_pretrained(tmp_path / "hub")
    PreTrainedTokenizerFast(tokenizer_object=chat_tokenizer()).save_pretrained(tmp_path / "hub")
    tiny.processor.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub", PICTURES[request.param]


@pytest.mark.slow
@pytest.mark.gst
def test_a_base_is_made_exported_and_run(hub: tuple[Path, tuple[int, int]], tmp_path: Path) -> None:
    folder, picture = hub
    options = ("--from", folder, "--out", "base", "--picture", *picture)
    run("train", "init-backbone", "qwen", *options, cwd=tmp_path)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["protocol"] |= {"window_turns": 24, "evict_turns": 8}  # few timesteps of parity evict then
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    run("export", "base", "--out", "bundle", "--precision", "fp32", "--parity-timesteps", 40, cwd=tmp_path)
    parity = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["parity"]
    assert parity["decision_agreement"] > 0.99 and parity["evictions"] > 0
    pytest.importorskip("gi")
    ask = ("--bundle", "bundle", "--ask", "Tell me when.", "--threshold", 0)
    said = run("edge_runtime.app.cli", SAMPLE, *ask, "--duration", 6, "--json", cwd=tmp_path)
    events = [json.loads(line) for line in said.splitlines()]
    assert [event["time"] for event in events if event["type"] == "response"]
