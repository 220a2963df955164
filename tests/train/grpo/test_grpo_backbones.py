"""GRPO from pretrained backbones: half-precision checkpoints, LoRA, memory."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.train.models.test_qwen import Tiny
from train.config.errors import RecipeError
from train.data.dataset import Source
from train.data.encode import OffsetSampling
from train.data.features import FeatureCache, write_features
from train.errors import TrainingError
from train.grpo import memory
from train.grpo.loss import PolicyLossSettings
from train.grpo.recipe import (
    GRPORecipe,
    GRPORun,
    PolicyOptimizer,
    PromptData,
    RolloutSettings,
    load_grpo_recipe,
)
from train.grpo.run import GRPOTrainer, run_grpo
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.lora import LoraSettings
from train.models.qwen.model import QWEN2_5
from train.rewards.trajectory import TrajectorySettings
from train.rewards.turn import TurnSettings

TURNS = 4


@pytest.fixture
def recipe(tmp_path):
    """Two steps from a tiny Qwen2.5-VL in bfloat16, on clips of which only features exist."""
    tiny = Tiny(QWEN2_5, tied=False, folder=tmp_path)
    stream_format = replace(tiny.stream_format, max_response_tokens=3, system_prompt="Look.")
    save_checkpoint(tmp_path / "base", tiny.model.bfloat16(), tiny.tokenizer, stream_format, ["OU"], {}, {})
    cache = FeatureCache(tmp_path / "cache", vision=tiny.vision)
    lines = []
    for i in range(4):
        clip = tmp_path / f"{i}.mp4"
        clip.write_bytes(bytes([i]))
        features = tiny.features(tiny.pictures(TURNS), tmp_path).numpy().astype(np.float16)
        write_features(cache.path(clip), clip.name, 1.0, range(TURNS), features)
        answer = {"start": 1.0, "end": 1.0, "text": "It is on."}
        record = {"id": f"clip{i}", "video": clip.name, "duration": float(TURNS), "task": "OU"}
        lines.append(json.dumps({**record, "answers": [answer], "query": {"time": 0.0, "text": "When?"}}))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    return GRPORecipe(
        init=tmp_path / "base",
        data=PromptData(train=(Source(tmp_path / "a.jsonl"),), cache=tmp_path / "cache"),
        output=tmp_path / "run",
        offsets=OffsetSampling(zero=1.0, near=0.0),
        rollout=RolloutSettings(prompts=2, group=6, rows=12),
        rewards={"turn": TurnSettings(0.9), "trajectory": TrajectorySettings(0.0)},
        optimizer=PolicyOptimizer(lr=1e-6, warmup_steps=0),
        run=GRPORun(steps=2, precision="fp32", threads=1, eval_steps=0, save_minutes=60),
    )


def test_small_steps_reach_the_weights_of_a_bfloat16_checkpoint(recipe):
    assert run_grpo(recipe)
    before, after = (load_checkpoint(f).model for f in (recipe.init, recipe.output / "checkpoint"))
    pairs = [
        (old.float(), new.float()) for old, new in zip(before.parameters(), after.parameters(), strict=True)
    ]
    changed = sum(int((old != new).sum()) for old, new in pairs)
    # A row of the embedding that no clip shows has no gradient.
    assert changed / sum(old.numel() for old, _ in pairs) > 0.5
    assert {p.dtype for p in after.parameters()} == {torch.float32}


def test_adapters_alone_learn_and_go_on(recipe):
    lora = LoraSettings(rank=2, alpha=4.0, dropout=0.3)
    recipe = replace(
        recipe,
        lora=lora,
        loss=PolicyLossSettings(kl=0.01),
        optimizer=replace(recipe.optimizer, lr=1e-2),
        run=replace(recipe.run, gradient_checkpointing=True),
    )
    assert run_grpo(recipe)
    folder = recipe.output / "checkpoint"
    assert (folder / "adapter.safetensors").is_file() and not (folder / "model.safetensors").exists()
    tuned, base = load_checkpoint(folder, merge=False).model, load_checkpoint(recipe.init).model
    assert tuned.adapters.settings == lora
    up = [p for name, p in tuned.named_parameters() if "lora_B" in name]
    assert up and all(bool(p.any()) for p in up)  # they start at zero
    state = base.decoder.state_dict()
    kept = {n: t for n, t in tuned.decoder.state_dict().items() if n in state}
    assert kept and all(torch.equal(state[name], tensor) for name, tensor in kept.items())
    assert run_grpo(recipe, resume=True)  # its state can be read
    assert run_grpo(replace(recipe, init=folder, output=recipe.output.with_name("more")))


def test_rollouts_and_updates_agree_on_probabilities(recipe, monkeypatch):
    """With dropout left on, an update would see other probabilities than the rollout drew by."""
    seen = []
    report = GRPOTrainer._report

    def keep(self, drawn, stats, *rest):
        seen.append(stats.clipped)
        report(self, drawn, stats, *rest)

    monkeypatch.setattr(GRPOTrainer, "_report", keep)
    lora = LoraSettings(rank=2, alpha=4.0, dropout=0.9)
    first = replace(recipe, lora=lora, optimizer=replace(recipe.optimizer, lr=1e-2))
    assert run_grpo(first)
    # Adapters that add something: dropout would show.
    second = replace(first, init=recipe.output / "checkpoint", output=recipe.output.with_name("more"))
    assert run_grpo(replace(second, run=replace(second.run, steps=1, gradient_checkpointing=True)))
    assert seen[-1] == 0.0


def test_what_does_not_fit_into_memory_is_refused_before_the_first_step(recipe, monkeypatch):
    monkeypatch.setattr(memory, "memory_bytes", lambda _: 100_000)
    with pytest.raises(RecipeError, match=r"base: GRPO needs .* GB .*add \[lora\]"):
        run_grpo(recipe)


def test_running_out_of_memory_names_the_keys_to_lower(recipe, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(GRPOTrainer, "_try_step", full)
    with pytest.raises(TrainingError, match=r"step 1: .*out of memory: lower rollout\.rows"):
        run_grpo(recipe)


def test_sharding_is_refused_in_words(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'init = "a"\noutput = "b"\n[data]\ntrain = [{ path = "x" }]\n[run]\nfsdp = "full_shard"\n'
    )
    with pytest.raises(RecipeError, match=r"run\.fsdp: GRPO does not shard.*\[lora\]"):
        load_grpo_recipe(path)
