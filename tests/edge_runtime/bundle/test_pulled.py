"""Bundles in the cache: found by name, listed, and what is said of folders that are no bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge_runtime.app.cli import commands
from edge_runtime.app.commands import pull as pull_module
from edge_runtime.app.commands.models import list_models
from edge_runtime.bundle.bundle_cache import models_folder
from edge_runtime.bundle.manifest import SHIPPED, find_bundle, load_bundle
from edge_runtime.bundle.published import is_research_only, read_licence, wanted_files
from edge_runtime.errors import BundleError, ConfigError


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pulled bundle called doorbell."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = models_folder() / "doorbell"
    shutil.copytree(SHIPPED / "nano", folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest |= {"license": "apache-2.0", "origin": {"checkpoint": "acme/doorbell@0123"}}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def test_a_pulled_bundle_is_found_by_its_name(pulled: Path, tmp_path: Path) -> None:
    assert load_bundle("doorbell").folder == pulled
    with pytest.raises(BundleError, match="pulled: doorbell"):
        find_bundle("knocker")
    with pytest.raises(BundleError, match="edge-run pull acme/knocker"):
        find_bundle("acme/knocker")
    (tmp_path / "doorbell").mkdir()
    assert find_bundle("doorbell") == Path("doorbell")  # what ran before goes on running


def test_models_lists_what_is_there(pulled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = models_folder() / "broken"
    damaged.mkdir()
    (damaged / "bundle.json").write_text("{")
    found = {one.name: one for one in list_models()}
    assert list(found) == ["nano", "scout", "broken", "doorbell"]
    assert found["doorbell"].licence == "apache-2.0" and found["doorbell"].origin == "acme/doorbell@0123"
    assert found["doorbell"].memory and found["doorbell"].size and found["doorbell"].memory > 200_000_000
    assert "not JSON" in str(found["broken"].problem)
    commands.main(["models"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "WEIGHTS", "ON", "DISK", "MEMORY", "LICENCE", "FROM"]
    assert lines[4].split()[:2] == ["doorbell", "int8"]
    commands.main(["models", "--json"], standalone_mode=False)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(found)


def test_a_folder_of_transformers_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(BundleError, match=f"python -m export {tmp_path} --format PRESET --out BUNDLE"):
        load_bundle(tmp_path)
    (tmp_path / "config.json").write_text('{"family": "qwen3_vl", "model": {}}')
    with pytest.raises(BundleError, match=f"a checkpoint, not a bundle.*export {tmp_path} --out BUNDLE"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "-x", "nano"])
def test_a_bundle_gets_a_plain_name_of_its_own(name: str) -> None:
    with pytest.raises(ConfigError, match="--as"):
        pull_module.check_bundle_name(name)


def test_pull_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.bundle.hub.missing_packages", lambda names: ["torch"])
    with pytest.raises(
        ConfigError, match=r"torch is not installed; run: pip install 'streampro-edge\[export\]'"
    ):
        commands.main(["pull", "acme/tiny", "--format", "streampro"], standalone_mode=False)


def test_the_same_pull_again_does_nothing(pulled: Path) -> None:
    how = pull_module.Import("streampro", "16:9@224", None, "ort-cpu", None, 16)
    manifest = json.loads((pulled / "bundle.json").read_text())
    manifest["origin"] = {"checkpoint": "a/b@1", "stream_format": "streampro", "frame": "16:9@224"}
    (pulled / "bundle.json").write_text(json.dumps(manifest))
    assert pull_module.is_made(pulled, "a/b@1", how)
    assert not pull_module.is_made(pulled, "a/b@2", how)
    other = pull_module.Import("streampro", "16:9@224", "int4", "ort-cpu", None, 16)
    assert not pull_module.is_made(pulled, "a/b@1", other)
    assert not pull_module.is_made(pulled.parent / "nothing", "a/b@1", how)


def test_only_files_of_an_import_are_wanted() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    names = ["README.md", "run.py", "config.json", "vocab.json", "merges.txt", index, *shards, "x.bin"]
    assert wanted_files(names, "m") == [
        "config.json",
        "README.md",
        "merges.txt",
        "vocab.json",
        index,
        *shards,
    ]
    with pytest.raises(BundleError, match="take a copy in that layout"):
        wanted_files(["config.json", "tokenizer.json", *shards], "m")
    with pytest.raises(BundleError, match="no tokenizer"):
        wanted_files(["config.json", "model.safetensors"], "m")


def test_the_licence_is_that_of_the_model_card(tmp_path: Path) -> None:
    assert read_licence(tmp_path) is None
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: qwen-research\n---\nlicense: mit\n"
    )
    assert read_licence(tmp_path) == "qwen-research"
    assert is_research_only("qwen-research") and not is_research_only("apache-2.0")
