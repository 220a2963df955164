"""LoRA: adapters start by adding nothing, are all that is saved, and merge into the same model."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from edge_runtime.bundle.stream_format import StreamFormat
from train.__main__ import main
from train.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from train.models.compact.model import CompactConfig, CompactModel
from train.models.lora import LoraSettings, start_adapters
from train.models.tokenizer import train_tokenizer

IMAGE, SILENCE, RESPONSE = 6, 7, 8


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    config = CompactConfig(
        vocab_size=1300,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        cell_channels=8,
    )
    save(tmp_path / "base", CompactModel(config))
    return tmp_path / "base"


def save(folder, model):
    save_checkpoint(folder, model, train_tokenizer(["a cat"], 1300), StreamFormat(), ["EU"], {}, {})


def inputs():
    torch.manual_seed(1)
    return torch.tensor([[9, *[IMAGE] * 9, 12, SILENCE, 40, RESPONSE, 41]]), torch.randn(1, 320, 7, 7), IMAGE


def adapted(base, **settings):
    model = load_checkpoint(base).model
    start_adapters(model, LoraSettings(rank=4, dropout=0.0, **settings), base, (SILENCE, RESPONSE))
    return model


@torch.enable_grad()
def trained(base):
    """A few steps, so that nothing is what it was."""
    model = adapted(base).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    ids, features, image_id = inputs()
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(
            model(ids, features, image_id)[0, :-1], ids[0, 1:], reduction="sum"
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def test_adapters_start_by_adding_nothing(base):
    torch.testing.assert_close(
        adapted(base).eval()(*inputs()), load_checkpoint(base).model(*inputs()), rtol=0, atol=1e-6
    )


def test_only_adapters_projector_and_new_rows_are_trained(base):
    names = {n for n, p in adapted(base).named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in names} == {"decoder", "projector", "token_rows"}
    assert all("lora_" in n for n in names if n.startswith("decoder"))
    before = load_checkpoint(base).model.state_dict()
    after = trained(base).state_dict()
    assert torch.equal(
        after["decoder.model.embed_tokens.weight"], before["decoder.model.embed_tokens.weight"]
    )
    rows = before["decoder.model.embed_tokens.weight"][[SILENCE, RESPONSE]]
    assert (after["token_rows.embedding_rows"] - rows).abs().min(dim=1).values.gt(0).all()


@torch.no_grad()
def test_saved_and_loaded_merged_or_not_it_computes_the_same(base, tmp_path):
    model = trained(base)
    expected = model(*inputs())
    save(tmp_path / "adapted", model)
    assert not (tmp_path / "adapted" / "model.safetensors").exists()
    saved = load_file(tmp_path / "adapted" / "adapter.safetensors")
    assert not any("base_layer" in name or "embed_tokens" in name for name in saved)

    kept = load_checkpoint(tmp_path / "adapted", merge=False).model
    assert torch.equal(kept(*inputs()), expected)
    merged = load_checkpoint(tmp_path / "adapted").model
    torch.testing.assert_close(merged(*inputs()), expected, rtol=1e-5, atol=1e-5)
    assert set(merged.state_dict()) == set(load_checkpoint(base).model.state_dict())
    assert merged.decoder.lm_head.weight is merged.decoder.get_input_embeddings().weight
    save(tmp_path / "plain", merged)
    assert torch.equal(load_checkpoint(tmp_path / "plain").model(*inputs()), merged(*inputs()))


@torch.no_grad()
def test_packed_adapters_take_half_the_space_and_compute_nearly_the_same(base, tmp_path):
    model = trained(base)
    save(tmp_path / "adapted", model)
    packed = tmp_path / "packed"
    result = CliRunner().invoke(main, ["to-fp16", str(tmp_path / "adapted"), "--out", str(packed)])
    assert result.exit_code == 0, result.output
    whole, half = (folder / "adapter.safetensors" for folder in (tmp_path / "adapted", packed))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for merge in (False, True):
        loaded = load_checkpoint(packed, merge=merge).model
        assert all(p.dtype == torch.float32 for p in loaded.parameters())
        torch.testing.assert_close(loaded(*inputs()), model(*inputs()), rtol=0, atol=0.01)


@torch.no_grad()
def test_the_difference_is_more_than_rounding(base):
    assert (trained(base)(*inputs()) - load_checkpoint(base).model(*inputs())).abs().max() > 0.1


def test_another_base_is_refused(base, tmp_path):
    save(tmp_path / "adapted", trained(base))
    torch.manual_seed(5)
    save(base, CompactModel(load_checkpoint(base).model.config))
    with pytest.raises(CheckpointError, match="sha256"):
        load_checkpoint(tmp_path / "adapted")


def test_a_base_that_is_gone_is_named(base, tmp_path):
    save(tmp_path / "adapted", trained(base))
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="base, which is not there"):
        load_checkpoint(tmp_path / "adapted")
    config = json.loads((tmp_path / "adapted" / "config.json").read_text())
    del config["lora"]["base"]
    (tmp_path / "adapted" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="base is missing"):
        load_checkpoint(tmp_path / "adapted")


def test_targets_that_are_no_layers_are_refused(base):
    with pytest.raises(ValueError, match="nothing"):
        adapted(base, targets=("nothing",))


@pytest.mark.parametrize("changes", [{"rank": 0}, {"dropout": 1.0}, {"alpha": 0.0}, {"targets": ()}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="lora"):
        LoraSettings(**changes)
