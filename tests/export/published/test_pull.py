"""From a hub on loopback to a bundle: `edge-run pull`, then the same model by name."""

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

from tests.hub_server import COMMIT, Hub

ROOT = Path(__file__).parents[3]
NAME = "acme/tiny-vl"


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder as the hub holds one: bfloat16, in shards, with the tokenizer of the model it comes from."""
    from transformers import PreTrainedTokenizerFast

    from tests.train.chat import chat_tokenizer
    from tests.train.models.test_qwen import Tiny

    (tmp_path / "tower").mkdir()
    tiny = Tiny(request.param, tied=request.param == "qwen2_5_vl", folder=tmp_path / "tower")
    tiny.whole.bfloat16().save_pretrained(tmp_path / "hub", max_shard_size="100KB")
    PreTrainedTokenizerFast(tokenizer_object=chat_tokenizer()).save_pretrained(tmp_path / "hub")
    tiny.processor.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


def run(*arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(cwd / "hf"), "XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        env=environment | more,
        check=False,
    )


@pytest.mark.slow
def test_a_published_model_is_pulled_and_nothing_is_added_to_it(published: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    facts = 'silence = "N"\nresponse = "Y"\nwindow_turns = 10\nevict_turns = 4\n'
    (tmp_path / "facts.toml").write_text(facts)
    files = {path.name: path.read_bytes() for path in published.iterdir()}
    hub = Hub({NAME: files}, cards={NAME: {"license": "apache-2.0"}})
    with hub.serve() as url:
        how = ("--format", "facts.toml", "--precision", "fp32", "--frame", "16:9@64")
        done = run("edge_runtime", "pull", NAME, *how, cwd=tmp_path, HF_ENDPOINT=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tiny-vl\n"
    folder = tmp_path / "cache" / "streampro-edge" / "models" / "tiny-vl"
    manifest = json.loads((folder / "bundle.json").read_text())
    assert manifest["license"] == "apache-2.0"
    assert manifest["origin"]["checkpoint"] == f"{NAME}@{COMMIT}"
    assert manifest["parity"]["decision_agreement"] == 1.0 and manifest["parity"]["evictions"] > 0
    height, width = manifest["model"]["image_size"]
    assert height < width
    theirs = Tokenizer.from_file(str(published / "tokenizer.json"))
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab() == theirs.get_vocab()
    listed = json.loads(run("edge_runtime", "models", "--json", cwd=tmp_path).stdout)
    assert [one["name"] for one in listed] == ["nano", "scout", "tiny-vl"]


@pytest.mark.slow
def test_tokens_that_are_not_there_are_not_added(published: Path, tmp_path: Path) -> None:
    done = run("export", published, "--format", "streampro", "--out", "bundle", cwd=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "--format streampro does not fit: tokenizer: </Silence> must be one token" in last
    assert not (tmp_path / "bundle").exists()
    needs = run("export", published, "--out", "bundle", cwd=tmp_path)
    assert needs.returncode == 3 and "a published model needs --format" in needs.stderr
    plan = run("export", published, "--plan", cwd=tmp_path)
    assert plan.returncode == 0 and "fits devices of 8 GB and more" in plan.stdout
