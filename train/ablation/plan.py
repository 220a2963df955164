"""What a comparison is: short trainings that differ in one thing, seed by seed, and the tests they all take.

A TOML file names a recipe, changes that hold for all, and an arm each for what differs. Trainings of one seed
start from the same weights and see the same data in the same order for the same number of steps, so that a
difference between arms is the arms' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from train.config.errors import RecipeError
from train.config.reader import build_recipe, plain, read_recipe
from train.config.toml import read_toml
from train.grpo.recipe import GRPORecipe
from train.sft.recipe import SFTRecipe

Recipe = SFTRecipe | GRPORecipe


@dataclass(frozen=True)
class Test:
    """Questions that every model is asked: ``questions`` of those in the annotation file ``path``, drawn by
    ``seed``; 0 for all of them.
    """

    __test__ = False  # not one of pytest's

    name: str
    path: Path
    questions: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.questions < 0 or not self.name:
            raise ValueError("a test needs a name, and questions must not be negative")
        if "/" in self.name:
            raise ValueError(f"test {self.name!r}: its name becomes part of a file's: no slash")


@dataclass(frozen=True)
class Comparison:
    """``recipe``: the file that all arms share, read by ``method``, with ``changes`` merged into it.
    ``arms``: what each changes beyond that. ``checkpoints``: models that are only tested, such as the one all
    start from. ``thresholds``: at which models are tested; each one's own when empty. Paths are relative to
    where the comparison is started.
    """

    recipe: Path
    arms: dict[str, dict[str, Any]]
    tests: tuple[Test, ...]
    method: Literal["sft", "grpo"] = "sft"
    seeds: tuple[int, ...] = (1, 2, 3)
    changes: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[str, Path] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        names = [*self.arms, *self.checkpoints]
        if not self.tests or not names or (self.arms and not self.seeds):
            raise ValueError("a comparison needs tests, arms and seeds")
        if len(set(names)) < len(names) or len({test.name for test in self.tests}) < len(self.tests):
            raise ValueError("arms, checkpoints and tests need names of their own")
        if any("/" in name for name in names):
            raise ValueError("names of arms and checkpoints are names of folders: no slash")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("thresholds lie between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return plain(asdict(self))


@dataclass(frozen=True)
class Trial:
    """One model to test: ``arm`` trained with ``seed``, or a checkpoint as it is, without recipe and seed.

    ``checkpoint``: where the model lies, or will. ``folder``: what the trial leaves behind.
    """

    arm: str
    seed: int | None
    recipe: Recipe | None
    checkpoint: Path
    folder: Path

    @property
    def name(self) -> str:
        return self.arm if self.seed is None else f"{self.arm}-{self.seed}"


def load_comparison(path: Path) -> Comparison:
    """Raises RecipeError for anything it does not know."""
    return read_recipe(path, Comparison)


def trials(comparison: Comparison, path: Path, out: Path) -> Iterator[Trial]:
    """All trials: checkpoints, then the arms, seed by seed, so that a comparison cut short is a fair one.

    ``path``: of the comparison, for messages. Raises RecipeError for changes that are no recipe, and for
    arms of unequal length.
    """
    kind: type[Recipe] = SFTRecipe if comparison.method == "sft" else GRPORecipe
    shared = merged(read_toml(comparison.recipe), comparison.changes)
    for name, checkpoint in comparison.checkpoints.items():
        yield Trial(name, None, None, checkpoint, out / name)
    lengths: set[int] = set()
    for seed in comparison.seeds:
        for arm, changes in comparison.arms.items():
            folder = out / f"{arm}-{seed}"
            recipe = build_recipe(kind, merged({"output": str(folder), **shared}, changes), path)
            recipe = replace(recipe, seed=seed, output=folder)
            if not recipe.run.steps or recipe.run.max_minutes:
                raise RecipeError(
                    f"{path}: arm {arm}: runs are compared after equal steps: set changes.run.steps, and "
                    "changes.run.max_minutes = 0"
                )
            lengths.add(recipe.run.steps)
            yield Trial(arm, seed, recipe, folder / "checkpoint", folder)
    if len(lengths) > 1:
        raise RecipeError(
            f"{path}: arms run for {' and '.join(map(str, sorted(lengths)))} steps: make them equal"
        )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``: tables are merged, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, which is NaN for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
