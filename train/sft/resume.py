"""States that training goes on from: folders ``checkpoint-STEP`` that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from edge_runtime.atomic_write import replace_folder
from edge_runtime.errors import first_line
from train.config.errors import RecipeError
from train.errors import TrainingError

FIXED = (
    *("seed", "init", "lora", "model", "protocol", "offsets", "loss", "data.train", "data.max_turns"),
    *("data.queries_per_session", "data.around_events"),
    *("run.batch_size", "run.accumulation", "run.precision", "run.inner_epochs", "run.minibatches"),
    *("rewards", "judge.kind", "judge.model", "rollout.prompts", "rollout.group", "rollout.temperature"),
    *("rollout.constrained", "rollout.threshold"),
    *("optimizer.weight_decay", "optimizer.beta1", "optimizer.beta2"),
)
"""Keys of a recipe that decide what the steps still to come will see and do. The learning rate is none of
them: to lower it is the advice after a loss that is not finite."""

_ABSENT = object()
"""In place of the value of a key that a recipe does not have; null is a value."""

_FAILED_WRITES = ("StreamWriter", "iostream error", "write failed")
"""torch raises them as a RuntimeError without a number."""
_TEMPORARY = ".saving"


def last_state(folder: Path) -> Path | None:
    """The newest state in ``folder``, or None."""
    states = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(states, key=_step, default=None)


def state_to_go_on_from(output: Path, recipe: Mapping[str, Any], *, resume: bool) -> Path | None:
    """The newest state in ``output``; None for a training that starts.

    Raises RecipeError when the folder holds states and ``resume`` is not set, or the reverse, and when
    ``recipe`` is not the one that the states were made by.
    """
    state = last_state(output / "states")
    if state is not None and not resume:
        raise RecipeError(f"{output}: holds a training already; go on with --resume or choose another output")
    if state is None and resume:
        raise RecipeError(f"{output}: holds no state to go on from; start without --resume")
    if resume:
        check_same_recipe(output / "recipe.json", recipe)
    return state


def temporary(folder: Path) -> Path:
    """Where a state of ``folder`` is written before it is whole."""
    return folder / _TEMPORARY


def put_in_place(folder: Path, name: str, keep: int) -> None:
    """The state ``name``, whole now, takes its place in ``folder``; of all only the newest ``keep`` stay."""
    replace_folder(temporary(folder) / name, folder / name)
    shutil.rmtree(temporary(folder), ignore_errors=True)
    for state in sorted(folder.glob("checkpoint-*"), key=_step)[:-keep]:
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def disk_errors(what: str, folder: Path) -> Iterator[None]:
    """Failures to write as TrainingError. ``what`` was to be written; ``folder`` holds what was before."""
    try:
        yield
    except TrainingError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _FAILED_WRITES):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        state = last_state(folder)
        kept = f"that of step {_step(state)} is intact: " if state else "there is none from before: "
        advice = "make room and go on with --resume" if state else "make room and start again"
        message = f"{folder.parent}: {what} could not be written ({reason}); of the states {kept}{advice}"
        raise TrainingError(message) from error


def check_same_recipe(saved: Path, recipe: Mapping[str, Any]) -> None:
    """Raise RecipeError when ``recipe`` differs from the one in ``saved`` in a key of :data:`FIXED`.

    Keys that the saved recipe does not have are taken to be equal.
    """
    try:
        before = json.loads(saved.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # the states are what counts; a recipe that was lost can't be compared
    for key in FIXED:
        old, new = _look_up(before, key), _look_up(dict(recipe), key)
        if old is not _ABSENT and _differs(old, new):
            raise RecipeError(
                f"{saved.parent}: was trained with another {key}; go on with the same recipe ({saved}) or "
                "choose another output"
            )


def _differs(old: Any, new: Any) -> bool:
    """Whether values differ; a key that only the newer one has does not count."""
    if isinstance(old, dict) and isinstance(new, dict):
        return any(key in new and _differs(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) != len(new) or any(map(_differs, old, new))
    return bool(old != new)


def _look_up(recipe: dict[str, Any], key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _step(state: Path) -> int:
    return int(state.name.rpartition("-")[2])
