"""A recipe with an ``init`` keeps the checkpoint's stream format in every stage, and says what it changes."""

import json
from dataclasses import replace

import pytest

from edge_runtime.bundle.stream_format import StreamFormat
from train.ablation.plan import load_comparison, trials
from train.config.errors import RecipeError
from train.grpo.recipe import load_grpo_recipe
from train.grpo.run import run_grpo
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.inherit import changes
from train.pretrain.run import run_pretraining
from train.sft.recipe import load_recipe
from train.sft.run import initial_model, run_sft

STREAM_FORMAT = StreamFormat(
    system_prompt="Look.", window_turns=40, evict_turns=8, max_response_tokens=9, threshold=0.93
)


@pytest.fixture
def start(sft_recipe, tmp_path):
    """A checkpoint with a stream format of its own."""
    model, tokenizer = initial_model(sft_recipe)
    save_checkpoint(tmp_path / "start", model, tokenizer, STREAM_FORMAT, [], {}, {})
    return tmp_path / "start"


@pytest.fixture
def write(tmp_path, start):
    """A recipe from ``start`` that trains for two steps; ``extra``: tables to add."""

    def written(extra="", name="fine.toml"):
        path = tmp_path / name
        path.write_text(
            f'init = "{start}"\noutput = "{tmp_path}/fine"\n'
            f'[data]\ntrain = [{{ path = "{tmp_path}/a.jsonl" }}]\ncache = "{tmp_path}/cache"\n'
            '[run]\nsteps = 2\nbatch_size = 2\nthreads = 1\nprecision = "fp32"\n' + extra
        )
        return path

    return written


def test_a_fine_tune_keeps_the_stream_format(write, tmp_path, capsys):
    assert run_sft(load_recipe(write()))
    assert load_checkpoint(tmp_path / "fine" / "checkpoint").stream_format == STREAM_FORMAT
    assert "changes" not in capsys.readouterr().err


def test_what_the_recipe_sets_holds_and_is_said(write, start, tmp_path, capsys):
    recipe = load_recipe(write("[protocol]\nthreshold = 0.7\nwindow_turns = 50\n"))
    assert recipe.protocol == replace(STREAM_FORMAT, threshold=0.7, window_turns=50)
    assert run_sft(recipe)
    said = [line for line in capsys.readouterr().err.splitlines() if "the recipe changes" in line]
    assert said == [
        f"{start}: the recipe changes protocol.window_turns: 40 -> 50",
        f"{start}: the recipe changes protocol.threshold: 0.93 -> 0.7",
    ]


def test_stage_zero_says_it_too(write, sft_recipe):
    said = []
    with pytest.raises(RecipeError, match="generated clip"):  # raised after the start was read
        run_pretraining(
            load_recipe(write("[protocol]\nthreshold = 0.7\n")), sft_recipe.output, 1, 0, said.append
        )
    assert any("protocol.threshold: 0.93 -> 0.7" in line for line in said)


def test_arms_of_a_comparison_inherit(write, start, tmp_path):
    base = write().read_text().replace(f'init = "{start}"\n', "")
    (tmp_path / "base.toml").write_text(base)
    path = tmp_path / "comparison.toml"
    path.write_text(
        f'recipe = "{tmp_path}/base.toml"\nseeds = [1]\n[changes]\ninit = "{start}"\n'
        "[arms.own]\n[arms.other.protocol]\nthreshold = 0.6\n"
        f'[[tests]]\nname = "t"\npath = "{tmp_path}/a.jsonl"\n'
    )
    found = {trial.arm: trial.recipe.protocol for trial in trials(load_comparison(path), path, tmp_path)}
    assert found == {"own": STREAM_FORMAT, "other": replace(STREAM_FORMAT, threshold=0.6)}


def test_grpo_keeps_it_and_says_its_threshold(start, tmp_path, capsys):
    path = tmp_path / "grpo.toml"
    path.write_text(
        f'init = "{start}"\noutput = "{tmp_path}/grpo"\n'
        f'[data]\ntrain = [{{ path = "{tmp_path}/a.jsonl" }}]\ncache = "{tmp_path}/cache"\n'
        "[rollout]\nprompts = 1\ngroup = 2\nthreshold = 0.8\n[rewards.trajectory]\nweight = 0.0\n"
        "[run]\nsteps = 1\nthreads = 1\neval_steps = 0\n"
    )
    assert run_grpo(load_grpo_recipe(path))
    assert load_checkpoint(tmp_path / "grpo" / "checkpoint").stream_format == replace(
        STREAM_FORMAT, threshold=0.8
    )
    assert "rollout.threshold changes protocol.threshold: 0.93 -> 0.8" in capsys.readouterr().err


def test_grpo_says_which_threshold_its_best_checkpoint_carries(start, tmp_path, capsys):
    path = tmp_path / "grpo.toml"
    source = f'[{{ path = "{tmp_path}/a.jsonl" }}]'
    path.write_text(
        f'init = "{start}"\noutput = "{tmp_path}/grpo"\n'
        f'[data]\ntrain = {source}\nvalidation = {source}\ncache = "{tmp_path}/cache"\n'
        "[rollout]\nprompts = 1\ngroup = 2\n[rewards.trajectory]\nweight = 0.0\n"
        "[run]\nsteps = 1\nthreads = 1\neval_steps = 1\neval_thresholds = [0.4]\n"
    )
    assert run_grpo(load_grpo_recipe(path))
    assert load_checkpoint(tmp_path / "grpo" / "best").stream_format.threshold == 0.4
    assert "run.eval_thresholds changes protocol.threshold: 0.93 -> 0.4" in capsys.readouterr().err


def test_sizes_that_would_have_no_effect_are_refused(write, start):
    layers = json.loads((start / "config.json").read_text())["model"]["num_layers"]
    assert load_recipe(write(f"[model]\nnum_layers = {layers}\n")).init == str(start)
    with pytest.raises(
        RecipeError, match=rf"fine\.toml: model\.num_layers is {layers + 1}, but .*leave the key out"
    ):
        load_recipe(write(f"[model]\nnum_layers = {layers + 1}\n"))


def test_changes_name_only_what_differs():
    assert changes(STREAM_FORMAT, STREAM_FORMAT) == []
    assert changes(STREAM_FORMAT, replace(STREAM_FORMAT, fps=2.0)) == ["protocol.fps: 1.0 -> 2.0"]
