"""R_traj: the share of the rubric's statements that hold of a whole trajectory (paper appendix B.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.metric.annotations import Annotation
from benchmarks.metric.tasks import REWARD_TAU_S
from edge_runtime.errors import ConfigError
from train.rewards.base import Judges, Reward, RewardSettings, RubricJudge
from train.rewards.content import ContentReward
from train.rollout.trajectory import Trajectory
from train.synthetic.sprites.rubrics import holds


@dataclass(frozen=True)
class TrajectorySettings(RewardSettings):
    """``[rewards.trajectory]``. With weight 0 no rubric is read, so that none has to be written.

    ``rubric``: "written" reads the statements of the annotation, as the paper does; "content" derives them
    from the answers (:mod:`train.rewards.content`), for which a response is at its time within ``tau``
    seconds.
    """

    weight: float = 0.45
    rubric: Literal["written", "content"] = "written"
    tau: float = REWARD_TAU_S

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau <= 0:
            raise ValueError(f"tau must be a positive number of seconds, got {self.tau}")

    def build(self, judges: Judges) -> Reward:
        if not self.weight:
            return _NoTrajectoryReward()
        if self.rubric == "content":
            return ContentReward(judges.text, self.tau)
        return TrajectoryReward(judges.rubric)


class TrajectoryReward(Reward):
    """R_traj in [0, 1]. ``judge`` is needed where a rubric has statements without ``check``."""

    def __init__(self, judge: RubricJudge | None) -> None:
        self._judge = judge

    def check(self, annotations: Sequence[Annotation]) -> None:
        for annotation in annotations:
            where = f"{annotation.path}, line {annotation.line}: {annotation.id}"
            if not annotation.rubric:
                raise ConfigError(f"{where} has no rubric; write one, or set rewards.trajectory.weight to 0")
            if self._judge is None and any(not item.get("check") for item in annotation.rubric):
                raise ConfigError(
                    f"{where} has a rubric that only a language model can judge; name one in [judge], or set "
                    "rewards.trajectory.weight to 0"
                )

    def prepare(self, trajectories: Sequence[Trajectory]) -> None:
        if self._judge is not None:
            self._judge.prepare([(t.prompt.truth, t.responses) for t in trajectories])

    def score(self, trajectory: Trajectory) -> float:
        """The mean of the rubric's binary checkpoints."""
        truth, responses = trajectory.prompt.truth, trajectory.responses
        texts = [r.text for r in sorted(responses, key=lambda r: r.time)]
        checks = [item["check"] for item in truth.rubric if item.get("check")]
        verdicts = [holds(check, texts) for check in checks]
        if len(checks) < len(truth.rubric):
            assert self._judge is not None  # see check()
            verdicts += self._judge.holds(truth, responses)
        return sum(verdicts) / len(verdicts)


class _NoTrajectoryReward(Reward):
    def score(self, trajectory: Trajectory) -> float:
        return 0.0
