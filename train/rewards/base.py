"""What every reward is: its keys in a recipe, its score of a trajectory, and where its name is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.judges import Judge
from train.config.registry import Registry
from train.rollout.trajectory import Trajectory


class RubricJudge(Protocol):
    """Decides statements of a rubric that carry no ``check``."""

    def prepare(self, cases: Sequence[tuple[Annotation, Sequence[Response]]]) -> None:
        """Judge these trajectories, side by side where that is faster."""
        ...

    def holds(self, annotation: Annotation, responses: Sequence[Response]) -> list[bool]:
        """For each statement of the annotation's rubric without ``check``, in order."""
        ...


@dataclass(frozen=True)
class Judges:
    """``text`` gives S_acc, for all tasks but TG. ``rubric``: for statements without ``check``, if any."""

    text: Judge
    rubric: RubricJudge | None = None


class Reward:
    """One reward of a trajectory. A subclass has :meth:`score`, and the others where it needs them."""

    def check(self, annotations: Sequence[Annotation]) -> None:
        """Raise ConfigError when the reward can't be computed for one of these."""

    def prepare(self, trajectories: Sequence[Trajectory]) -> None:
        """Called before :meth:`score` with the whole batch, to judge side by side."""

    def score(self, trajectory: Trajectory) -> float:
        """Raises an EdgeError when a judge cannot judge."""
        raise NotImplementedError


@dataclass(frozen=True)
class RewardSettings(ABC):
    """The keys of ``[rewards.NAME]`` in a recipe. A reward adds its own keys in a subclass.

    ``weight``: of its score in the sum.
    """

    weight: float

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")

    @abstractmethod
    def build(self, judges: Judges) -> Reward:
        """The reward under these settings."""

    @staticmethod
    def named(name: str) -> type[RewardSettings]:
        """The settings of a reward. Raises ConfigError for a name that no reward has."""
        return REWARDS.find(name)


REWARDS: Registry[type[RewardSettings]] = Registry(
    "reward",
    "streampro_edge.rewards",
    {
        "format": "train.rewards.format:FormatSettings",
        "turn": "train.rewards.turn:TurnSettings",
        "trajectory": "train.rewards.trajectory:TrajectorySettings",
        "restraint": "train.rewards.restraint:RestraintSettings",
    },
)
"""Every reward that a recipe may name. Another package adds one with an entry point."""
