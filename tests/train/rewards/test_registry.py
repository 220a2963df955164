"""A reward of another package takes part in a training of GRPO by its name in the recipe."""

import json

import pytest
import torch

from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import ConfigError
from tests.train.plugin import install
from tests.train.tiny_config import TINY
from train.config.errors import RecipeError
from train.grpo.recipe import load_grpo_recipe
from train.grpo.run import run_grpo
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.compact.model import CompactModel
from train.models.tokenizer import train_tokenizer
from train.rewards.base import REWARDS

GROUP = "streampro_edge.rewards"
BREVITY = '''
"""A reward for few words."""
from dataclasses import dataclass

from train.rewards.base import Reward, RewardSettings


@dataclass(frozen=True)
class Settings(RewardSettings):
    weight: float = 0.5
    words: int = 3

    def build(self, judges):
        return Brevity(self.words)


class Brevity(Reward):
    def __init__(self, words):
        self.words = words

    def score(self, trajectory):
        return float(sum(len(r.text.split()) for r in trajectory.responses) <= self.words)
'''


@pytest.fixture
def recipe(tmp_path, sft_corpus, monkeypatch):
    """Writes a recipe of one step with more in it."""
    install(tmp_path / "site", "few_words", BREVITY, GROUP, {"brevity": "Settings", "broken": "Nothing"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    sft_corpus(tmp_path, count=4)
    tokenizer = train_tokenizer(["It is on.", "When?"], 1300)
    torch.manual_seed(0)
    format_ = StreamFormat(system_prompt="Watch.", window_turns=80, evict_turns=16, max_response_tokens=2)
    save_checkpoint(tmp_path / "start", CompactModel(TINY), tokenizer, format_, ["OU"], {}, {})

    def written(more):
        path = tmp_path / "r.toml"
        path.write_text(
            f'init = "{tmp_path}/start"\noutput = "{tmp_path}/run"\n[data]\ncache = "{tmp_path}/cache"\n'
            f'train = [{{ path = "{tmp_path}/a.jsonl" }}]\n[rollout]\nprompts = 1\ngroup = 4\n'
            '[run]\nsteps = 1\neval_steps = 0\nprecision = "fp32"\nthreads = 1\n'
            f"[rewards.trajectory]\nweight = 0.0\n{more}"
        )
        return path

    return written


def test_a_reward_of_another_package_is_part_of_a_step(recipe, tmp_path, capsys):
    loaded = load_grpo_recipe(recipe("[rewards.brevity]\nwords = 1000\nweight = 2.0\n"))
    assert list(loaded.rewards) == ["format", "turn", "trajectory", "brevity"]
    assert run_grpo(loaded)
    config = load_checkpoint(tmp_path / "run" / "checkpoint").config
    found = config["metrics"]["grpo"]
    assert found["brevity"] == 1.0
    assert found["reward"] == pytest.approx(0.1 * found["format"] + 0.45 * found["turn"] + 2.0)
    assert "brevity 1.000" in capsys.readouterr().err
    assert config["recipe"]["rewards"]["brevity"] == {"weight": 2.0, "words": 1000}
    saved = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert saved["rewards"]["turn"]["tau"] == 8.0
    changed = load_grpo_recipe(recipe("[rewards.brevity]\nwords = 5\nweight = 2.0\n"))
    with pytest.raises(RecipeError, match="another rewards"):
        run_grpo(changed, resume=True)


def test_its_keys_are_checked_as_ours_are(recipe):
    with pytest.raises(RecipeError, match=r"unknown key rewards\.brevity\.letters; known: weight, words"):
        load_grpo_recipe(recipe("[rewards.brevity]\nletters = 4\n"))
    with pytest.raises(RecipeError, match=r"rewards\.brevity: weight must not be negative"):
        load_grpo_recipe(recipe("[rewards.brevity]\nweight = -1.0\n"))


def test_what_cannot_be_loaded_is_said(recipe):
    with pytest.raises(
        RecipeError, match=r"unknown reward 'wit'; known: format, turn, trajectory, restraint, brevity"
    ):
        load_grpo_recipe(recipe("[rewards.wit]\nweight = 1.0\n"))
    with pytest.raises(RecipeError, match=r"reward 'broken': few_words:Nothing can't be loaded"):
        load_grpo_recipe(recipe("[rewards.broken]\nweight = 1.0\n"))
    assert REWARDS.names()[:3] == ["format", "turn", "trajectory"]
    with pytest.raises(ConfigError):
        REWARDS.find("wit")
