"""A backbone of another package: its command, one step of supervised training from it, and its checkpoint."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from edge_runtime.errors import ConfigError
from export.errors import ExportError
from export.families.registry import exporter_of
from tests.train.plugin import install
from train.__main__ import main
from train.data.features import FeatureCache
from train.models.checkpoint import CheckpointError, load_checkpoint
from train.models.registry import BACKBONES, backbone_of
from train.sft.recipe import load_recipe
from train.sft.run import run_sft

GROUP = "streampro_edge.backbones"
SAMPLE = Path(__file__).parents[3] / "edge_runtime" / "samples" / "sample.mp4"
COLOURS = '''
"""A backbone that sees the mean colour of a frame."""
from dataclasses import asdict, dataclass

import click
import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from edge_runtime.bundle.stream_format import StreamFormat
from train.models.base import StreamModel, Visual
from train.models.cache_argument import CACHE_ARGUMENT
from train.models.checkpoint import save_checkpoint
from train.models.registry import OUT, Backbone
from train.models.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Config:
    width: int = 16

    def to_dict(self):
        return asdict(self)


@dataclass(frozen=True)
class Colours:
    key = "mean colours"
    picture = (32, 32)

    def record(self):
        return {"name": "mean colours"}

    def prepare(self, folder):
        pass

    def load(self, folder):
        return mean_colours


def mean_colours(pictures):
    return pictures.mean((1, 2)).astype(np.float16) / 255


class ColourModel(StreamModel):
    family, vision, frame_tokens = "colours", Colours(), 1

    def __init__(self, config):
        super().__init__()
        self.config = config
        llama = LlamaConfig(
            vocab_size=1300, hidden_size=config.width, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        )
        self.decoder, self.projector = LlamaForCausalLM(llama), nn.Linear(3, config.width)

    def visual(self, features, streams=None):
        return Visual(self.projector(features)[:, None])

    def positions(self, input_ids, image_id, start):
        length = input_ids.shape[1]
        return start[:, None] + torch.arange(length), start + length

    def hidden(self, input_ids, visual, image_id, *, positions=None, attention_mask=None, cache=None):
        embeddings = self.decoder.get_input_embeddings()(input_ids)
        image = (input_ids == image_id).unsqueeze(-1)
        return self.decoder.model(
            inputs_embeds=embeddings.masked_scatter(image, visual.tokens.to(embeddings.dtype)),
            position_ids=positions, attention_mask=attention_mask, **{CACHE_ARGUMENT: cache},
            use_cache=cache is not None,
        ).last_hidden_state

    def logits(self, hidden):
        return self.decoder.lm_head(hidden)

    def output_matrix(self):
        return self.decoder.lm_head


@click.command("colours")
@OUT
@click.option("--width", default=16)
def init(out, width):
    """Start from a decoder that knows nothing."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["It is on.", "When?"], 1300)
    stream_format = StreamFormat(frame_tokens=1, system_prompt="Watch.")
    save_checkpoint(out, ColourModel(Config(width)), tokenizer, stream_format, [], {}, {})


BACKBONE = Backbone(("colours",), lambda config, folder: ColourModel(Config(**config["model"])), init)
'''


@pytest.fixture
def plugged_in(tmp_path, monkeypatch):
    entries = {"colours": "BACKBONE", "broken": "NOTHING"}
    install(tmp_path / "site", "colour_backbone", COLOURS, GROUP, entries)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def start(folder):
    done = CliRunner().invoke(main, ["init-backbone", "colours", "--out", str(folder), "--width", "32"])
    assert done.exit_code == 0, done.output
    return folder


def test_a_backbone_of_another_package_is_trained_and_loaded(plugged_in, sft_corpus, tmp_path):
    init = start(tmp_path / "start")
    sft_corpus(tmp_path, count=1)
    shutil.copy(SAMPLE, tmp_path / "0.mp4")
    path = tmp_path / "r.toml"
    path.write_text(
        f'init = "{init}"\noutput = "{tmp_path}/run"\n[data]\ncache = "{tmp_path}/features"\nworkers = 1\n'
        f'train = [{{ path = "{tmp_path}/a.jsonl" }}]\n'
        '[run]\nsteps = 1\nbatch_size = 1\nprecision = "fp32"\nthreads = 1\n'
    )
    assert run_sft(load_recipe(path))
    loaded = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert type(loaded.model).__name__ == "ColourModel" and loaded.model.config.width == 32
    assert loaded.config["vision"] == {"name": "mean colours"} and loaded.config["metrics"]["step"] == 1
    assert not torch.equal(loaded.model.projector.weight, load_checkpoint(init).model.projector.weight)
    seen = FeatureCache(tmp_path / "features", vision=loaded.model.vision).load(tmp_path / "0.mp4")
    assert seen.features.shape[1:] == (3,) and len(seen.features) > 5
    with pytest.raises(ExportError, match="colours cannot be exported"):
        exporter_of(loaded.model)
    told = CliRunner().invoke(main, ["to-fp16", str(init), "--out", str(tmp_path / "half")])
    assert "not stored as float16" in str(told.exception)
    again = CliRunner().invoke(main, ["init-backbone", "colours", "--out", str(init)])
    assert again.exit_code == 2 and "is there already" in again.output
    path.write_text(path.read_text() + "[protocol]\nframe_tokens = 4\n")
    with pytest.raises(ConfigError, match="frame_tokens"):
        run_sft(replace(load_recipe(path), output=tmp_path / "other"))


def test_without_its_package_the_family_is_unknown(plugged_in, tmp_path, monkeypatch):
    init = start(tmp_path / "start")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="'colours', expected one of compact, qwen2_5_vl, qwen3_vl"):
        load_checkpoint(init)


def test_a_package_that_is_broken_is_named(plugged_in):
    with pytest.raises(ConfigError, match="backbone 'broken': colour_backbone:NOTHING can't be loaded"):
        BACKBONES.find("broken")
    assert backbone_of("compact").exporter and backbone_of("colours").init  # neither asks the broken one
    assert CliRunner().invoke(main, ["init-backbone", "compact", "--out", "x"]).exit_code == 2
