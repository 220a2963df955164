"""One trial of a comparison: train unless that is done, test, and leave ``result.json``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.metric.annotations import write_predictions
from edge_runtime.atomic_write import write_whole
from train.ablation.plan import Comparison, Recipe, Test, Trial
from train.config.errors import RecipeError
from train.config.reader import plain
from train.grpo.run import run_grpo
from train.models.checkpoint import Checkpoint, load_checkpoint
from train.rollout.examination import Examination, drawn, figures
from train.sft.recipe import SFTRecipe
from train.sft.resume import last_state
from train.sft.run import run_sft

RESULT = "result.json"


def run_trial(trial: Trial, comparison: Comparison, cache: Path) -> bool:
    """Train and test; what was done before is not done again. Returns False when a signal stopped it.

    ``cache``: folder of vision features. Raises what training and reading the tests raise.
    """
    if read_result(trial, comparison) is not None:
        return True
    started = time.monotonic()
    if not _train(trial):
        return False
    trained = time.monotonic()
    checkpoint = load_checkpoint(trial.checkpoint)
    if trial.recipe is not None and trial.recipe.run.threads:
        torch.set_num_threads(trial.recipe.run.threads)
    tests = {
        test.name: _examine(checkpoint, test, comparison, cache, trial.folder) for test in comparison.tests
    }
    result = {
        "arm": trial.arm,
        "seed": trial.seed,
        "recipe": None if trial.recipe is None else trial.recipe.to_dict(),
        "asked": _asked(comparison),
        "training_minutes": (trained - started) / 60,  # of the last stretch, where training was interrupted
        "testing_minutes": (time.monotonic() - trained) / 60,
        "tests": tests,
    }
    write_whole(trial.folder / RESULT, [json.dumps(result, indent=2) + "\n"])
    return True


def read_result(trial: Trial, comparison: Comparison) -> dict[str, Any] | None:
    """What a trial found before, None when it has to be run or tested (again).

    Raises RecipeError when its folder holds the result of another recipe.
    """
    path = trial.folder / RESULT
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if result["recipe"] != (None if trial.recipe is None else trial.recipe.to_dict()):
        raise RecipeError(f"{path}: is the result of another recipe; choose another --out, or remove it")
    return result if result["asked"] == _asked(comparison) else None


def _asked(comparison: Comparison) -> dict[str, Any]:
    return {
        "tests": plain([asdict(test) for test in comparison.tests]),
        "thresholds": [*comparison.thresholds],
    }


def _train(trial: Trial) -> bool:
    recipe = trial.recipe
    if recipe is None or _is_trained(trial.checkpoint, recipe):
        return True
    resume = last_state(trial.folder / "states") is not None
    if isinstance(recipe, SFTRecipe):
        return run_sft(recipe, resume=resume)
    return run_grpo(recipe, resume=resume)


def _is_trained(checkpoint: Path, recipe: Recipe) -> bool:
    """Whether the model in this folder has all of the recipe's steps. Raises RecipeError for another's."""
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        step, made_by = int(config["metrics"]["step"]), config["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if step < recipe.run.steps:
        return False  # going on compares recipes itself
    if made_by != recipe.to_dict():
        raise RecipeError(
            f"{path}: is a model of another recipe; choose another --out, or remove {checkpoint}"
        )
    return True


def _examine(
    checkpoint: Checkpoint, test: Test, comparison: Comparison, cache: Path, folder: Path
) -> dict[str, Any]:
    """Figures of one test by threshold. What was said is kept beside the result."""
    examination = Examination(checkpoint, (test.path,), cache)
    questions = drawn(examination.annotations, test.questions, test.seed)
    found = {}
    for threshold in comparison.thresholds or (checkpoint.stream_format.threshold,):
        said = examination.ask(questions, threshold)
        write_predictions(folder / f"{test.name}-{threshold:g}.jsonl", said)
        found[f"{threshold:g}"] = figures(questions, said)
    return found
