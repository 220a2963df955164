"""Two processes on a CPU (gloo) do what one does: gradients of all losses, sharded weights, states."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.sft.recipe import LossSettings
from train.sft.resume import last_state
from train.sft.run import prepare, run_sft

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LOSSES = ("cross-entropy", "focal", "cb-stream")

STEP = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from transformers import TrainerCallback
from train.sft.recipe import load_recipe
from train.sft.run import prepare

class Keep(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients = {n: p.grad.clone().contiguous() for n, p in model.named_parameters()}

for path in map(Path, sys.argv[1:]):
    prepared, keep = prepare(load_recipe(path)), Keep()
    prepared.trainer.add_callback(keep)
    prepared.trainer.train()
    if prepared.trainer.accelerator.is_main_process:
        gradients = {n.removeprefix("module."): g for n, g in keep.gradients.items()}
        save_file(gradients, path.with_suffix(".grads"))
# A rank that ends while its gloo threads run dies of SIGABRT now and then.
prepared.trainer.accelerator.wait_for_everyone()
prepared.trainer.accelerator.end_training()
"""


def with_run(recipe, output, **changes):
    return replace(recipe, output=recipe.output.parent / output, run=replace(recipe.run, **changes))


def on_two_processes(*command):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *map(str, command)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def weights(recipe):
    return load_file(recipe.output / "checkpoint" / "model.safetensors")


def assert_close(found, expected, atol):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if "num_batches" not in name:
            torch.testing.assert_close(
                found[name], value, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
            )


def test_gradients_of_two_processes_are_those_of_one(sft_recipe, as_toml, tmp_path):
    """Eight trajectories in one optimizer batch: 2 processes x 2 steps x 2, and 1 x 1 x 8."""
    (tmp_path / "step.py").write_text(STEP)
    paths = []
    for kind in LOSSES:
        two = with_run(sft_recipe, f"two-{kind}", batch_size=2, accumulation=2)
        paths.append(as_toml(replace(two, loss=LossSettings(kind=kind)), kind))
    on_two_processes(tmp_path / "step.py", *paths)
    for kind, path in zip(LOSSES, paths, strict=True):
        one = replace(with_run(sft_recipe, f"one-{kind}", batch_size=8), loss=LossSettings(kind=kind))
        prepared = prepare(one)
        kept = {}

        def keep(*arguments, kept=kept, model=prepared.trainer.model):
            kept.update({n: p.grad.clone() for n, p in model.named_parameters()})

        optimizer = prepared.trainer.create_optimizer()
        optimizer.register_step_pre_hook(keep)
        prepared.trainer.train()
        assert max(float(gradient.abs().max()) for gradient in kept.values()) > 0.01
        assert_close(load_file(path.with_suffix(".grads")), kept, atol=1e-6)


def test_sharded_weights_learn_the_same_and_their_states_serve_any_number_of_processes(sft_recipe, as_toml):
    recipe = replace(sft_recipe, data=replace(sft_recipe.data, validation=sft_recipe.data.train))
    whole = with_run(recipe, "whole", epochs=3, batch_size=2, accumulation=2, eval_steps=2, eval_items=5)
    run_sft(whole)
    sharded = with_run(whole, "sharded", accumulation=1, fsdp="full_shard")
    said = on_two_processes("-m", "train", "sft", as_toml(sharded))
    assert "validation at step 6" in said and "Warning" not in said
    assert_close(weights(sharded), weights(whole), atol=1e-5)
    metrics = [
        json.loads((r.output / "checkpoint" / "config.json").read_text())["metrics"] for r in (sharded, whole)
    ]
    assert metrics[0]["teacher_forced"]["OU"] == pytest.approx(metrics[1]["teacher_forced"]["OU"], abs=1e-4)

    # go on from the state of the middle: sharded again, and on one process with whole weights
    half = with_run(whole, "half", accumulation=1, fsdp="full_shard", max_minutes=0.0, epochs=3)
    (half.output / "states").mkdir(parents=True)
    half_recipe = as_toml(replace(half, run=replace(half.run, save_minutes=0.0)), "half")
    on_two_processes("-m", "train", "sft", half_recipe)  # saves every step, keeps the last two
    states = half.output / "states"
    newest = last_state(states)
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    assert last_state(states).name == "checkpoint-5"
    optimizer = torch.load(last_state(states) / "optimizer.pt", weights_only=True)
    shapes = {tuple(entry["exp_avg"].shape) for entry in optimizer["state"].values()}
    assert (1300, 32) in shapes  # whole, not a shard
    on_two_processes("-m", "train", "sft", half_recipe, "--resume")
    assert_close(weights(half), weights(sharded), atol=1e-6)
