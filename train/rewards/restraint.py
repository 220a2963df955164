"""Restraint: each response that says no answer costs, whether the question has answers or not."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.metric.judges import Judge
from benchmarks.metric.tasks import REWARD_TAU_S
from train.rewards.base import Judges, Reward, RewardSettings
from train.rewards.content import right_responses
from train.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class RestraintSettings(RewardSettings):
    """``[rewards.restraint]``. ``tau``: seconds within which a response may say an answer."""

    weight: float = 0.2
    tau: float = REWARD_TAU_S

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau <= 0:
            raise ValueError(f"tau must be a positive number of seconds, got {self.tau}")

    def build(self, judges: Judges) -> Reward:
        return RestraintReward(judges.text, self.tau)


class RestraintReward(Reward):
    """1 / (1 + n) with n responses that say no answer, a second time included. Silence has 1."""

    def __init__(self, judge: Judge, tau: float) -> None:
        self._judge, self._tau = judge, tau

    def score(self, trajectory: Trajectory) -> float:
        truth, responses = trajectory.prompt.truth, trajectory.responses
        said = right_responses(truth, responses, self._judge, self._tau)
        return 1 / (1 + len(responses) - sum(match is not None for match in said))
