"""Recipes, and whole trainings of a tiny model: overfit, resume, splits of the batch, failures."""

import itertools
import json
import os
import random
import re
import signal
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from train.config.errors import RecipeError
from train.data.encode import OffsetSampling
from train.models.checkpoint import load_checkpoint
from train.models.compact.model import CompactConfig
from train.sft.losses import DecisionIds
from train.sft.optimizer import Optimizer
from train.sft.recipe import Data, LossSettings, Run, load_recipe
from train.sft.run import prepare, run_sft
from train.sft.schedule import TimedCosine
from train.sft.teacher_forced import count, rates


@pytest.fixture
def recipe(sft_recipe):
    return sft_recipe


def with_run(recipe, output="run", **changes):
    return replace(recipe, output=recipe.output.parent / output, run=replace(recipe.run, **changes))


def weights(recipe):
    return load_file(recipe.output / "checkpoint" / "model.safetensors")


def assert_same_weights(found, expected, **tolerance):
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda text, n=name: f"{n}: {text}", **tolerance
        )


class KeepGradients(TrainerCallback):
    """Gradients as the optimizer gets them, of the last step."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


class Interrupt(TrainerCallback):
    """Ctrl-C in the middle of the step after ``step``."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_overfits_and_leaves_a_checkpoint(recipe):
    recipe = with_run(recipe, epochs=80, batch_size=8, eval_steps=80)
    recipe = replace(recipe, optimizer=Optimizer(lr=1e-2, warmup_steps=5))
    recipe = replace(recipe, data=replace(recipe.data, validation=recipe.data.train))
    assert run_sft(recipe)
    checkpoint = load_checkpoint(recipe.output / "checkpoint")
    found = checkpoint.config["metrics"]["teacher_forced"]["OU"]
    assert found["recall"] == found["silence_recall"] == found["exact"] == 1.0
    assert checkpoint.stream_format == recipe.protocol
    log = (recipe.output / "train.log").read_text()
    assert "step     80/80" in log and "validation at step 80" in log
    assert list((recipe.output / "tensorboard").iterdir())


class Witness(TrainerCallback):
    """What each step saw, and what chance gave it."""

    def __init__(self, trainer):
        self._trainer = trainer
        self.seen = []

    def on_step_end(self, args, state, control, **kwargs):
        drawn = torch.rand(1).item(), np.random.rand(), random.random()
        self.seen.append((list(self._trainer._batch_ids), drawn))


def run_with_witness(recipe, resume=False, interrupt_at=None):
    prepared = prepare(recipe, resume=resume)
    witness = Witness(prepared.trainer)
    prepared.trainer.add_callback(witness)
    if interrupt_at is not None:
        prepared.trainer.add_callback(Interrupt(interrupt_at))
    prepared.trainer.train(resume_from_checkpoint=str(prepared.state) if prepared.state else None)
    return prepared, witness.seen


@pytest.mark.parametrize("accumulation", [1, 2])
def test_interrupted_and_resumed_equals_uninterrupted(recipe, accumulation):
    split = {"batch_size": 4 // accumulation, "accumulation": accumulation}
    straight = with_run(recipe, "straight", epochs=3, **split)
    _, seen = run_with_witness(straight)

    broken = with_run(recipe, "broken", epochs=3, **split)
    first, before = run_with_witness(broken, interrupt_at=2)
    assert first.callback.stopped and first.trainer.state.global_step == 3
    _, after = run_with_witness(broken, resume=True)
    assert before + after == seen and len(after) == 3
    assert_same_weights(weights(broken), weights(straight), rtol=0, atol=0)


def test_a_training_goes_on_with_the_learning_rate_its_recipe_has_now(recipe):
    broken = with_run(recipe, "broken", epochs=3, batch_size=4)
    run_with_witness(broken, interrupt_at=2)
    lower = replace(broken, optimizer=replace(broken.optimizer, lr=broken.optimizer.lr / 10))
    prepared, _ = run_with_witness(lower, resume=True)
    assert set(prepared.trainer.lr_scheduler.base_lrs) == {lower.optimizer.lr}
    assert max(g["lr"] for g in prepared.trainer.optimizer.param_groups) <= lower.optimizer.lr


@pytest.mark.parametrize("kind", ["cross-entropy", "focal", "cb-stream"])
def test_accumulation_of_one_and_of_eight_give_the_same_gradients(recipe, kind):
    found = []
    for name, batch, accumulation in (("one", 8, 1), ("eight", 1, 8)):
        variant = with_run(recipe, name, batch_size=batch, accumulation=accumulation)
        prepared = prepare(replace(variant, loss=LossSettings(kind=kind)))
        keep = KeepGradients()
        prepared.trainer.add_callback(keep)
        prepared.trainer.train()
        found.append(keep.gradients)
    assert_same_weights(*found, rtol=0, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in found[0].values()) > 0.01


def test_checkpointed_activations_give_the_same_gradients(recipe):
    found = []
    for checkpointing in (False, True):
        variant = with_run(recipe, f"run-{checkpointing}", gradient_checkpointing=checkpointing)
        prepared = prepare(variant)
        keep = KeepGradients()
        prepared.trainer.add_callback(keep)
        prepared.trainer.train()
        assert prepared.trainer.model.model.decoder.is_activation_checkpointing == checkpointing
        found.append(keep.gradients)
    assert_same_weights(*found, rtol=0, atol=1e-6)


def test_a_clip_of_two_hundred_turns_is_learned_whole(recipe, sft_corpus):
    folder = recipe.output.parent
    sft_corpus(folder, count=2, turns=200)
    recipe = with_run(recipe, batch_size=2, log_steps=1, gradient_checkpointing=True)
    prepared = prepare(replace(recipe, protocol=replace(recipe.protocol, window_turns=200)))
    witness = KeepGradients()
    prepared.trainer.add_callback(witness)
    prepared.trainer.train()
    counts = prepared.trainer._counts
    assert (counts.silence, counts.response) == (398, 2)
    assert all(gradient.isfinite().all() for gradient in witness.gradients.values())


def test_an_output_folder_is_neither_overwritten_nor_resumed_by_accident(recipe):
    with pytest.raises(RecipeError, match="no state"):
        run_sft(recipe, resume=True)
    run_sft(recipe)
    with pytest.raises(RecipeError, match="--resume"):
        run_sft(recipe)


def test_a_protocol_with_another_number_of_visual_tokens_is_refused(recipe):
    stream_format = replace(recipe.protocol, frame_tokens=recipe.protocol.frame_tokens + 1)
    with pytest.raises(RecipeError, match=r"protocol\.frame_tokens"):
        prepare(replace(recipe, protocol=stream_format))


def test_time_limit_ends_training_with_the_schedule_complete(recipe, monkeypatch):
    ticks = itertools.count(step=0.02)  # each step takes as long on a clock of our own
    monkeypatch.setattr("train.sft.schedule.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    recipe = with_run(recipe, epochs=1000, max_minutes=1 / 60)
    prepared = prepare(recipe)
    prepared.trainer.train()
    assert prepared.trainer.state.global_step == 50
    assert prepared.trainer.optimizer.param_groups[0]["lr"] <= 0.03 * recipe.optimizer.lr
    assert (recipe.output / "checkpoint").is_dir()


def test_a_second_recipe_starts_from_the_first_ones_checkpoint(recipe):
    run_sft(recipe)
    second = replace(with_run(recipe, "second"), init=str(recipe.output / "checkpoint"))
    second = replace(second, model=CompactConfig(), optimizer=Optimizer(lr=0.0))
    run_sft(second)
    expected = {
        name: value
        for name, value in weights(recipe).items()
        if "running_" not in name and "num_" not in name
    }
    assert_same_weights(weights(second), expected, rtol=0, atol=0)


def test_projector_has_its_own_learning_rate_and_vectors_do_not_decay(recipe):
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, projector_lr=1e-4))
    trainer = prepare(recipe).trainer
    groups = trainer.create_optimizer().param_groups
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (5e-3, 0.05),
        (5e-3, 0.0),
        (1e-4, 0.05),
        (1e-4, 0.0),
    }
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))


# The schedule


def test_schedule_follows_steps_or_time_whichever_is_further():
    schedule = TimedCosine(steps=100, warmup=10, final=0.1, limit_s=60.0)
    assert schedule(0) == pytest.approx(0.1, rel=1e-3)
    assert schedule(50) == pytest.approx(0.55)
    assert schedule(100) == pytest.approx(0.1)
    schedule.spent = 30.0
    assert schedule(20) == pytest.approx(0.55) and schedule(75) < 0.55 and not schedule.over
    schedule.spent = 60.0
    assert schedule(20) == pytest.approx(0.1) and schedule.over


# Teacher-forced measures


def test_teacher_forced_counts_by_hand():
    ids = DecisionIds(silence=0, response=1)
    targets = torch.tensor([0, 1, 3, 4, 0, 1, 3, 4, 1, 4])
    said = torch.tensor([0, 1, 3, 4, 1, 1, 3, 2, 0, 4])
    found = rates(count(torch.nn.functional.one_hot(said, 5).float(), targets, ids))
    assert found["recall"] == pytest.approx(2 / 3) and found["precision"] == pytest.approx(2 / 3)
    assert found["silence_recall"] == found["silence_precision"] == 0.5
    assert found["text"] == pytest.approx(4 / 5)
    assert found["exact"] == pytest.approx(2 / 3)  # the third is missed, but its text is right


# Recipes


def write(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    return tmp_path / "r.toml"


GOOD = 'output = "out"\n[data]\ntrain = [{path = "a.jsonl"}]\n'


@pytest.mark.parametrize("name", ["nano-pretrain", "nano-chunks", "nano-sft", "nano-more"])
def test_the_shipped_recipes_are_of_one_model(name):
    recipe = load_recipe(Path(__file__).parents[3] / "train" / "recipes" / f"{name}.toml")
    assert recipe.model == CompactConfig(motion=True)
    assert (recipe.protocol.window_turns, recipe.protocol.evict_turns) == (80, 16)
    assert recipe.protocol.max_response_tokens == 24
    json.dumps(recipe.to_dict())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "[run]\nepoch = 3\n", r"r\.toml.*run\.epoch"),
        (GOOD + "[run]\nepochs = 'many'\n", r"run\.epochs: expected int"),
        (GOOD + "[run]\nepochs = true\n", r"run\.epochs: expected int"),
        (GOOD + "[run]\nprecision = 'fp8'\n", r"run\.precision: expected one of bf16, fp32"),
        (GOOD + "[protocol]\nevict_turns = 500\n", "evict_turns"),
        (GOOD + "[offsets]\nzero = 2.0\n", "shares"),
        (GOOD + "[attention_supervision]\nauxiliary = -0.1\n", "attention_supervision: weights"),
        ('output = "out"\n', "data is missing"),
        ('output = "out"\n[data]\ntrain = [{weight = 1}]\n', r"data\.train\[0\]\.path is missing"),
        ('output = "out"\n[data]\ntrain = "a.jsonl"\n', r"data\.train: expected a list"),
        ("output = \n", "not TOML"),
    ],
)
def test_a_bad_recipe_names_file_and_key(tmp_path, text, words):
    with pytest.raises(RecipeError, match=rf"r\.toml(?s:.*){words}" if "toml" not in words else words):
        load_recipe(write(tmp_path, text))


def test_whole_numbers_are_taken_for_seconds_and_rates(tmp_path):
    assert load_recipe(write(tmp_path, GOOD + "[run]\nmax_minutes = 5\n")).run.max_minutes == 5.0


def test_the_documentation_names_every_key_with_its_default():
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| (.+?) \|", text, re.MULTILINE))
    optional = {"optimizer.projector_lr", "optimizer.embedding_lr", "data.train", "data.validation"}
    for section in (Data, OffsetSampling, LossSettings, Optimizer, Run):
        name = {"OffsetSampling": "offsets", "LossSettings": "loss"}.get(
            section.__name__, section.__name__.lower()
        )
        for field in fields(section):
            key = f"{name}.{field.name}"
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            if key not in optional:
                expected = json.dumps(str(default) if isinstance(default, Path) else default)
                assert rows.get(key) == expected, key
