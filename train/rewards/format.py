"""R_fmt: the share of timesteps whose output is of the format (paper section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.rewards.base import Judges, Reward, RewardSettings
from train.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class FormatSettings(RewardSettings):
    """``[rewards.format]``."""

    weight: float = 0.1

    def build(self, judges: Judges) -> Reward:
        return FormatReward()


class FormatReward(Reward):
    """R_fmt in [0, 1]."""

    def score(self, trajectory: Trajectory) -> float:
        return format_reward(trajectory.valid)


def format_reward(valid: Sequence[bool]) -> float:
    """R_fmt: share of timesteps whose output is one ``</Silence>`` or ``</Response>`` with text."""
    return sum(valid) / len(valid) if valid else 1.0
