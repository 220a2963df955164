"""A reinforcement learning of a tiny model that takes a second, and what its steps report."""

import pytest


@pytest.fixture
def recipe(tmp_path, sft_corpus):
    import torch

    from tests.train.tiny_config import TINY, TINY_FORMAT
    from train.data.dataset import Source
    from train.data.encode import OffsetSampling
    from train.grpo.recipe import GRPORecipe, GRPORun, PolicyOptimizer, PromptData, RolloutSettings
    from train.models.checkpoint import save_checkpoint
    from train.models.compact.model import CompactModel
    from train.models.tokenizer import train_tokenizer
    from train.synthetic.sprites.rubrics import write_rubric

    sft_corpus(tmp_path, count=6, rubric=write_rubric(["It is on."]))
    tokenizer = train_tokenizer(["It is on.", "When?"], 1300)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "start", CompactModel(TINY), tokenizer, TINY_FORMAT, ["OU"], {}, {})
    sources = (Source(tmp_path / "a.jsonl"),)
    return GRPORecipe(
        init=tmp_path / "start",
        data=PromptData(train=sources, validation=sources, cache=tmp_path / "cache"),
        output=tmp_path / "run",
        offsets=OffsetSampling(zero=1.0, near=0.0),
        rollout=RolloutSettings(prompts=4, group=6, rows=24),
        optimizer=PolicyOptimizer(lr=3e-3, warmup_steps=1),
        run=GRPORun(steps=4, precision="fp32", threads=1, eval_steps=0, save_minutes=60),
    )


@pytest.fixture
def rewards(monkeypatch):
    """The report of every step."""
    from train.grpo.report import StepReporter

    seen = []
    report = StepReporter.step

    def step(self, number, steps, minutes, found):
        seen.append(found)
        report(self, number, steps, minutes, found)

    monkeypatch.setattr(StepReporter, "step", step)
    return seen
