"""Checkpoint folders: what goes in comes out, and what does not fit is refused in words."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file

from edge_runtime.bundle.stream_format import StreamFormat
from tests.train.tiny_config import ONE_LAYER as CONFIG
from train.__main__ import main
from train.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from train.models.compact.model import CompactModel
from train.models.tokenizer import train_tokenizer
from train.models.weights import load_weights, save_weights, tensors_sha256, weight_files

STREAM_FORMAT = StreamFormat(window_turns=80, evict_turns=16)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a cat"], 1300)


@pytest.fixture
def folder(tmp_path, tokenizer):
    torch.manual_seed(0)
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, CompactModel(CONFIG), tokenizer, STREAM_FORMAT, ["EU"], {"seed": 1}, {"step": 7})
    return folder


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip(tmp_path, tokenizer):
    torch.manual_seed(0)
    model = CompactModel(CONFIG).eval()
    save_checkpoint(tmp_path / "c", model, tokenizer, STREAM_FORMAT, ["EU", "TG"], {"seed": 1}, {"step": 7})
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.stream_format == STREAM_FORMAT
    assert loaded.model.config == CONFIG
    assert loaded.config["tasks"] == ["EU", "TG"]
    assert loaded.config["vision"]["name"] == "efficientnet-lite0"
    assert loaded.tokenizer.to_str() == tokenizer.to_str()
    inputs = torch.tensor([[9, *[6] * CONFIG.frame_tokens, 12]]), torch.randn(1, 320, 7, 7), 6
    assert torch.equal(model(*inputs), loaded.model(*inputs))


def test_what_it_knows_is_kept_and_checked(folder, tmp_path, tokenizer):
    assert load_checkpoint(folder).knowledge is None
    known = {"domain": "Cats.", "classes": [{"name": "cat"}], "kinds": []}
    save_checkpoint(folder, CompactModel(CONFIG), tokenizer, STREAM_FORMAT, ["EU"], {}, {}, known)
    assert load_checkpoint(folder).knowledge == known
    assert CliRunner().invoke(main, ["to-fp16", str(folder), "--out", str(tmp_path / "half")]).exit_code == 0
    assert load_checkpoint(tmp_path / "half").knowledge == known
    (folder / "knowledge.json").write_text('{"classes": []}')
    with pytest.raises(CheckpointError, match=r"knowledge\.json.*write it again or remove it"):
        load_checkpoint(folder)


def test_packed_takes_half_the_space_and_loads_in_float32(folder, tmp_path):
    assert CliRunner().invoke(main, ["to-fp16", str(folder), "--out", str(tmp_path / "half")]).exit_code == 0
    whole, half = (path / "model.safetensors" for path in (folder, tmp_path / "half"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded, original = load_checkpoint(tmp_path / "half"), load_checkpoint(folder)
    assert all(value.dtype != torch.float16 for value in loaded.model.state_dict().values())
    assert loaded.model.decoder.lm_head.weight is loaded.model.decoder.get_input_embeddings().weight
    for name, value in original.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert loaded.config == original.config
    again = CliRunner().invoke(main, ["to-fp16", str(folder), "--out", str(tmp_path / "half")])
    assert again.exit_code == 2 and "is there already" in again.output


def test_the_tied_output_matrix_is_stored_once_and_tied_again(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert "decoder.lm_head.weight" not in file.keys()  # noqa: SIM118
    decoder = load_checkpoint(folder).model.decoder
    assert decoder.lm_head.weight is decoder.get_input_embeddings().weight


def test_saving_again_replaces_and_leaves_nothing_behind(folder, tokenizer):
    save_checkpoint(folder, CompactModel(CONFIG), tokenizer, STREAM_FORMAT, ["RF"], {}, {})
    assert load_checkpoint(folder).config["tasks"] == ["RF"]
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format_version": None}, "format_version"),
        ({"family": "qwen"}, "qwen"),
        ({"model": {"vocab_size": 1300, "hidden_size": 64}}, "size mismatch"),
        ({"protocol": {"fps": 0}}, "fps"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(folder, change, words):
    edit(folder, **change)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(folder)


def test_damaged_weights_are_refused(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=str(folder)):
        load_checkpoint(folder)


def test_unknown_keys_are_ignored(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder, model={**config["model"], "later": 1}, protocol={**config["protocol"], "later": 1})
    assert load_checkpoint(folder).model.config == CONFIG


def test_large_weights_are_written_in_parts_and_read_back(tmp_path):
    weights = {f"w{i}": torch.randn(100) for i in range(5)}
    save_weights(tmp_path, weights, shard_bytes=900)
    assert len(weight_files(tmp_path)) == 3 and not (tmp_path / "model.safetensors").exists()
    loaded = load_weights(tmp_path)
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[k], weights[k]) for k in weights)


def test_the_hash_of_weights_is_of_their_values_names_and_types():
    weights = {"a": torch.randn(4, 3), "b": torch.arange(5)}
    digest = tensors_sha256(weights)
    assert tensors_sha256(dict(reversed(weights.items()))) == digest
    for other in ({"a": weights["a"] + 1}, {"a": weights["a"].bfloat16()}, {"a": weights["a"].T}):
        assert tensors_sha256(weights | other) != digest
    assert tensors_sha256({"a": weights["a"], "c": weights["b"]}) != digest


def test_parts_that_are_missing_or_lie_elsewhere_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_weights(folder, weights, shard_bytes=100_000)
    assert load_checkpoint(folder).model.config == CONFIG
    part = weight_files(folder)[1]
    part.rename(folder / "aside")
    with pytest.raises(CheckpointError, match=part.name):
        load_checkpoint(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"] = {name: "../x.safetensors" for name in index["weight_map"]}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="not a file beside it"):
        load_checkpoint(folder)


def test_the_shipped_checkpoint_is_what_the_shipped_bundle_was_made_from():
    root = Path(__file__).parents[3]
    checkpoint, bundle = root / "train" / "checkpoints" / "nano", root / "edge_runtime" / "bundles" / "nano"
    made = json.loads((bundle / "bundle.json").read_text())
    loaded = load_checkpoint(checkpoint)
    assert StreamFormat.from_dict(made["protocol"]) == loaded.stream_format
    assert (bundle / "tokenizer.json").read_bytes() == (checkpoint / "tokenizer.json").read_bytes()
    size = sum(file.stat().st_size for folder in (checkpoint, bundle) for file in folder.iterdir())
    assert size < 30e6
