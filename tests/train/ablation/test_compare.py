"""Comparisons: what arms share, what they differ in, and a whole one with a tiny model."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.metric.annotations import read_annotations, read_predictions, write_annotations
from train.ablation.plan import load_comparison, mean_and_spread, merged, trials
from train.ablation.report import markdown
from train.ablation.run import run_all
from train.ablation.trial import read_result, run_trial
from train.config.errors import RecipeError
from train.errors import TrainingError
from train.rollout.examination import drawn, figures

ROOT = Path(__file__).parents[3]
SPEC = """
recipe = "{folder}/base.toml"
seeds = [1, 2]

[changes.run]
steps = 4
threads = 1

[arms.cross-entropy.loss]
kind = "cross-entropy"
[arms.cb-stream.loss]
kind = "cb-stream"
beta = 0.999

[[tests]]
name = "answered"
path = "{folder}/a.jsonl"
questions = 5
[[tests]]
name = "quiet"
path = "{folder}/negatives.jsonl"
"""


@pytest.fixture
def spec(tmp_path, sft_recipe, as_toml):
    """The file of a comparison whose base recipe trains a tiny model for two steps an epoch."""
    as_toml(replace(sft_recipe, run=replace(sft_recipe.run, epochs=2)), "base")
    questions = read_annotations(tmp_path / "a.jsonl")
    write_annotations(
        tmp_path / "negatives.jsonl", [replace(q, id=f"{q.id}/quiet", answers=()) for q in questions]
    )
    path = tmp_path / "comparison.toml"
    path.write_text(SPEC.format(folder=tmp_path))
    return path


def trials_of(path, out):
    comparison = load_comparison(path)
    return comparison, list(trials(comparison, path, out))


def test_arms_differ_in_what_they_say_and_in_nothing_else(spec, tmp_path):
    _, every = trials_of(spec, tmp_path / "out")
    assert [t.name for t in every] == ["cross-entropy-1", "cb-stream-1", "cross-entropy-2", "cb-stream-2"]
    plain = {t.name: t.recipe.to_dict() for t in every}
    for seed in (1, 2):
        one, other = plain[f"cross-entropy-{seed}"], plain[f"cb-stream-{seed}"]
        assert {key for key in one if one[key] != other[key]} == {"loss", "output"}
        assert one["seed"] == seed and one["run"]["steps"] == 4 and one["run"]["threads"] == 1
        assert other["loss"] == {"kind": "cb-stream", "beta": 0.999, "lambda_text": 2.0, "gamma": 2.0}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 4", "steps = 0", "equal steps"),
        ("threads = 1", "max_minutes = 1", "equal steps"),
        ('kind = "cross-entropy"', 'kind = "mse"', "loss.kind"),
        ("beta = 0.999", "betta = 0.999", "loss.betta"),
        ("beta = 0.999", "beta = 0.999\n[arms.cb-stream.run]\nsteps = 3", "make them equal"),
        ('name = "quiet"', 'name = "answered"', "names of their own"),
        ('name = "quiet"', 'name = "quiet/night"', "quiet/night.*no slash"),
        ("seeds = [1, 2]", "seeds = []", "needs tests, arms and seeds"),
        ("seeds = [1, 2]", 'method = "ppo"', "method"),
        ("base.toml", "gone.toml", "can't be read"),
    ],
)
def test_what_is_no_comparison_is_said(spec, tmp_path, old, new, message):
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new))
    with pytest.raises(RecipeError, match=message):
        trials_of(spec, tmp_path / "out")


def test_more_steps_than_the_epochs_hold_are_refused(spec, tmp_path):
    spec.write_text(spec.read_text().replace("steps = 4", "steps = 5"))
    comparison, every = trials_of(spec, tmp_path / "out")
    with pytest.raises(RecipeError, match=r"hold 4: raise run\.epochs"):
        run_trial(every[0], comparison, tmp_path / "cache")


def test_tables_merge_and_the_rest_is_replaced():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merged(base, {"a": {"c": [5]}, "e": {"f": 1}}) == {"a": {"b": 1, "c": [5]}, "d": 3, "e": {"f": 1}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_questions_are_drawn_by_seed_and_stay_in_order(spec, tmp_path):
    questions = read_annotations(tmp_path / "a.jsonl")
    one = drawn(questions, 4, seed=1)
    assert one == drawn(questions, 4, seed=1)
    assert len(one) == 4 and one != drawn(questions, 4, seed=2)
    assert one == sorted(one, key=questions.index)
    assert drawn(questions, 0, seed=1) == questions


def test_mean_and_spread_by_hand():
    assert mean_and_spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    mean, spread = mean_and_spread([4.0])
    assert mean == 4.0 and spread != spread


def test_table_by_hand(spec, tmp_path):
    comparison, every = trials_of(spec, tmp_path / "out")

    def result(trial, f1, rate):
        tests = {
            "answered": {"0.5": {"questions": 5, "f1": {"W-Avg": f1, "OU": f1}, "responses_per_answer": 1.5}},
            "quiet": {"0.5": {"questions": 8, "false_alarms": {"per_minute": rate}}},
        }
        return {"arm": trial.arm, "seed": trial.seed, "recipe": trial.recipe.to_dict(), "tests": tests}

    found = [result(t, f1, rate) for t, f1, rate in zip(every, (10, 40, 14, 44), (1, 2, 1, 4), strict=True)]
    text = markdown(comparison, found)
    assert "| cb-stream | 2 | 42.0 ± 2.8 | 42.0 ± 2.8 | 1.50 ± 0.00 |" in text
    assert "| cross-entropy | 2 | 1.00 ± 0.00 |" in text and "| cb-stream | 2 | 3.00 ± 1.41 |" in text
    assert "4 steps" in text
    # With several thresholds each has a row of its own; a trial that is not done yet leaves its seed out.
    found[1]["tests"]["quiet"]["0.9"] = {"questions": 8, "false_alarms": {"per_minute": 0.5}}
    assert "| cb-stream, threshold 0.9 | 1 | 0.50 |" in markdown(comparison, found[:2])


def test_a_trial_leaves_its_figures_and_is_not_run_again(spec, tmp_path):
    comparison, every = trials_of(spec, tmp_path / "out")
    trial = every[0]
    assert run_trial(trial, comparison, tmp_path / "cache")
    found = read_result(trial, comparison)
    said = read_predictions(trial.folder / "quiet-0.5.jsonl")
    assert found["tests"]["quiet"]["0.5"]["false_alarms"]["responses"] == sum(len(p.responses) for p in said)
    questions = drawn(read_annotations(tmp_path / "a.jsonl"), 5, comparison.tests[0].seed)
    answered = read_predictions(trial.folder / "answered-0.5.jsonl")
    assert {p.id for p in answered} == {q.id for q in questions} and len(questions) == 5
    assert found["tests"]["answered"]["0.5"] == figures(questions, answered)

    weights = (trial.folder / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    before = (trial.folder / "result.json").stat().st_mtime_ns
    assert run_trial(trial, comparison, tmp_path / "cache")
    assert (trial.folder / "result.json").stat().st_mtime_ns == before
    # Another threshold: tested again, not trained again.
    stricter = replace(comparison, thresholds=(0.25, 0.75))
    assert run_trial(trial, stricter, tmp_path / "cache")
    assert set(read_result(trial, stricter)["tests"]["quiet"]) == {"0.25", "0.75"}
    assert (trial.folder / "checkpoint" / "model.safetensors").stat().st_mtime_ns == weights
    other = replace(trial, recipe=replace(trial.recipe, seed=9))
    with pytest.raises(RecipeError, match=r"result\.json: is the result of another recipe"):
        run_trial(other, comparison, tmp_path / "cache")
    # Nor is the model taken for another recipe's when there is no result yet.
    (trial.folder / "result.json").unlink()
    with pytest.raises(
        RecipeError, match=r"config\.json: is a model of another recipe; choose another --out"
    ):
        run_trial(other, comparison, tmp_path / "cache")


def command_of(spec, out):
    return [sys.executable, "-m", "train", "compare", str(spec), "--out", str(out)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_goes_on_where_it_was_stopped(spec, tmp_path):
    out = tmp_path / "out"
    spec.write_text(spec.read_text().replace("seeds = [1, 2]", "seeds = [1]"))
    process = subprocess.Popen(
        command_of(spec, out), cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    while not (out / "cross-entropy-1" / "result.json").is_file():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert not (out / "cb-stream-1" / "result.json").is_file()
    kept = (out / "cross-entropy-1" / "result.json").stat().st_mtime_ns

    done = subprocess.run(command_of(spec, out), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "cross-entropy-1" / "result.json").stat().st_mtime_ns == kept
    assert [r["arm"] for r in json.loads((out / "results.json").read_text())["trials"]] == [
        "cross-entropy",
        "cb-stream",
    ]
    assert done.stdout.count("| cb-stream | 1 |") == 2  # a table a test
    assert (out / "results.md").read_text().strip() == done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_that_fails_is_named_with_its_log(spec, tmp_path):
    spec.write_text(spec.read_text().replace("steps = 4", "steps = 40"))
    comparison, every = trials_of(spec, tmp_path / "out")
    with pytest.raises(TrainingError, match=r"cross-entropy-1: run\.steps is 40.*console\.log"):
        run_all(spec, comparison, every, tmp_path / "out", 1)


def test_shipped_comparisons_are_readable(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in sorted((ROOT / "train" / "recipes").glob("ablation-*.toml")):
        _, every = trials_of(path, tmp_path)
        assert len(every) >= 4, path
