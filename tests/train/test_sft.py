"""Recipes, and whole trainings of a tiny model: overfit, resume, splits of the batch, failures."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from edge_runtime.protocol import Protocol
from train.data.dataset import Source
from train.data.encode import OffsetSampling
from train.data.features import FeatureCache, write_features
from train.losses import DecisionIds
from train.model.checkpoint import load_checkpoint
from train.model.compact import CompactConfig
from train.model.tokenizer import train_tokenizer
from train.recipe import Data, LossSettings, Optimizer, RecipeError, Run, SFTRecipe, load_recipe
from train.sft import prepare, run_sft
from train.teacher_forced import count, rates
from train.trainer import TimedCosine, TrainingError

TINY = CompactConfig(
    vocab_size=1300,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    cell_channels=8,
)
TURNS = 6


def write_corpus(folder, count=8):
    """Clips of features only: the picture changes at some timestep, and the answer is due at the next end."""
    cache = FeatureCache(folder / "cache")
    pictures = np.random.default_rng(0).normal(size=(2, 320, 7, 7)).astype(np.float16)
    lines = []
    for i in range(count):
        clip = folder / f"{i}.mp4"
        clip.write_bytes(bytes([i]))
        change = 1 + i % 4
        array = np.stack([pictures[int(k >= change)] for k in range(TURNS)])
        write_features(cache.path(clip), clip.name, 1.0, range(TURNS), array)
        answer = {"start": float(change), "end": float(change), "text": "It is on."}
        record = {
            "id": f"clip{i}",
            "video": clip.name,
            "duration": float(TURNS),
            "task": "OU",
            "answers": [answer],
        }
        lines.append(json.dumps({**record, "query": {"time": 0.0, "text": "When?"}}))
    (folder / "a.jsonl").write_text("\n".join(lines))


@pytest.fixture
def recipe(tmp_path):
    write_corpus(tmp_path)
    train_tokenizer(["It is on.", "When?"], 1300).save(str(tmp_path / "tokenizer.json"))
    return SFTRecipe(
        data=Data(train=(Source(tmp_path / "a.jsonl"),), cache=tmp_path / "cache"),
        output=tmp_path / "run",
        tokenizer=str(tmp_path / "tokenizer.json"),
        model=TINY,
        protocol=Protocol(system_prompt="Watch.", window_turns=80, evict_turns=16),
        offsets=OffsetSampling(zero=1.0, near=0.0),
        optimizer=Optimizer(lr=5e-3, warmup_steps=2),
        run=Run(epochs=1, batch_size=4, precision="fp32", threads=1, log_steps=10, save_minutes=60),
    )


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
    assert checkpoint.protocol == recipe.protocol
    log = (recipe.output / "train.log").read_text()
    assert "step     80/80" in log and "validation at step 80" in log
    assert list((recipe.output / "tensorboard").iterdir())


def test_interrupted_and_resumed_equals_uninterrupted(recipe):
    straight = with_run(recipe, "straight", epochs=3)
    run_sft(straight)

    broken = with_run(recipe, "broken", epochs=3)
    first = prepare(broken)
    first.trainer.add_callback(Interrupt(step=2))
    first.trainer.train()
    assert first.keeper.stopped and first.trainer.state.global_step == 3
    assert run_sft(broken, resume=True)
    assert_same_weights(weights(broken), weights(straight), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["cross-entropy", "focal", "cb-stream"])
def test_accumulation_of_one_and_of_eight_give_the_same_gradients(recipe, kind):
    found = []
    for name, batch, accumulation in (("one", 8, 1), ("eight", 1, 8)):
        variant = with_run(recipe, name, batch_size=batch, accumulation=accumulation)
        prepared = prepare(replace(variant, loss=LossSettings(kind=kind)))
        # Batch norm sees the micro-batch, so it alone depends on the split.
        prepared.trainer.model.model.projector.norm = torch.nn.Identity()
        keep = KeepGradients()
        prepared.trainer.add_callback(keep)
        prepared.trainer.train()
        found.append(keep.gradients)
    assert_same_weights(*found, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_two_ranks_equal_two_accumulated_steps(recipe, tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(
        "import pickle, sys\nfrom train.sft import run_sft\nrun_sft(pickle.load(open(sys.argv[1], 'rb')))\n"
    )
    import pickle

    two = with_run(recipe, "two", batch_size=2)
    (tmp_path / "recipe.pickle").write_bytes(pickle.dumps(two))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": ""}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29611",
    ]
    subprocess.run([*command, str(script), str(tmp_path / "recipe.pickle")], check=True, env=environment)
    one = with_run(recipe, "one", batch_size=2, accumulation=2)
    run_sft(one)
    expected = {
        name: value for name, value in weights(one).items() if "running_" not in name and "num_" not in name
    }
    assert_same_weights(weights(two), expected, rtol=1e-4, atol=2e-6)


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(recipe):
    clip = recipe.output.parent / "3.mp4"
    path = FeatureCache(recipe.data.cache).path(clip)
    write_features(path, clip.name, 1.0, range(TURNS), np.full((TURNS, 320, 7, 7), np.nan, np.float16))
    with pytest.raises(TrainingError, match=r"(?s)nan.*clip3"):
        run_sft(recipe)
    assert not (recipe.output / "checkpoint").exists()


def test_an_output_folder_is_neither_overwritten_nor_resumed_by_accident(recipe):
    with pytest.raises(RecipeError, match="no state"):
        run_sft(recipe, resume=True)
    run_sft(recipe)
    with pytest.raises(RecipeError, match="--resume"):
        run_sft(recipe)


def test_a_protocol_with_another_number_of_visual_tokens_is_refused(recipe):
    protocol = replace(recipe.protocol, frame_tokens=recipe.protocol.frame_tokens + 1)
    with pytest.raises(RecipeError, match=r"protocol\.frame_tokens"):
        prepare(replace(recipe, protocol=protocol))


def test_time_limit_ends_training_with_the_schedule_complete(recipe):
    recipe = with_run(recipe, epochs=1000, max_minutes=1 / 60)
    prepared = prepare(recipe)
    prepared.trainer.train()
    assert 0 < prepared.trainer.state.global_step < 2000
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


def test_the_shipped_recipe_loads():
    recipe = load_recipe(Path(__file__).parents[2] / "train" / "recipes" / "nano-sft.toml")
    assert recipe.model == CompactConfig()
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
