"""The multi-grained reward of a trajectory (paper section 4.2, appendix B.1): a weighted sum of rewards.

    R = 0.1 R_fmt + 0.45 R_turn + 0.45 R_traj

These three are always there; a recipe changes their keys in ``[rewards.NAME]`` and may add others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.metric.annotations import Annotation
from train.rewards.base import Judges, RewardSettings
from train.rewards.format import FormatSettings
from train.rewards.trajectory import TrajectorySettings
from train.rewards.turn import TurnSettings
from train.rollout.trajectory import Trajectory

PAPER: dict[str, RewardSettings] = {
    "format": FormatSettings(),
    "turn": TurnSettings(),
    "trajectory": TrajectorySettings(),
}
"""The rewards of the paper, with its weights."""


@dataclass(frozen=True)
class Score:
    """A trajectory's reward, and the rewards by name that it is the weighted sum of."""

    total: float
    parts: dict[str, float]


class WeightedSum:
    """``settings``: by name, of each reward."""

    def __init__(self, settings: Mapping[str, RewardSettings], judges: Judges) -> None:
        self._weights = {name: part.weight for name, part in settings.items()}
        self._rewards = {name: part.build(judges) for name, part in settings.items()}

    def check(self, annotations: Sequence[Annotation]) -> None:
        """Raise ConfigError when a reward can't be computed for one of these."""
        for reward in self._rewards.values():
            reward.check(annotations)

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Scores in order; of several questions in one session, their mean.

        Raises an EdgeError when a judge cannot judge.
        """
        apart = [trajectory.by_question() for trajectory in trajectories]
        for reward in self._rewards.values():
            reward.prepare([one for questions in apart for one in questions])
        return [self._score(questions) for questions in apart]

    def _score(self, questions: Sequence[Trajectory]) -> Score:
        parts = {
            name: sum(reward.score(one) for one in questions) / len(questions)
            for name, reward in self._rewards.items()
        }
        return Score(sum(self._weights[name] * value for name, value in parts.items()), parts)
