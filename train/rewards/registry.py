"""The multi-grained reward of a trajectory (paper section 4.2, appendix B.1).

    R = 0.1 R_fmt + 0.45 R_turn + 0.45 R_traj

R_fmt: share of timesteps whose output is of the format. R_turn: 2 sum S' / (N_pred + N_gt), with
S' = S_time + S_acc of the matched responses. R_traj: share of the rubric's statements that hold of the
trajectory as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.judges import Case, Judge, accuracy, prepare
from benchmarks.metric.matching import Match, match_answers_first
from benchmarks.metric.tasks import REWARD_TAU_S, SLACK_S, TASKS
from edge_runtime.errors import ConfigError
from train.rollout.trajectory import Trajectory
from train.synthetic.sprites.rubrics import holds


@dataclass(frozen=True)
class RewardSettings:
    """The paper's constants. ``tau``: seconds, of time scores and matching windows.

    ``matching``: "ground-truth-first" is the paper's algorithm 1; "prediction-first" gives each response, in
    time order, to the first answer whose window holds it. ``one_sided_agency``: windows of GP and RF end at
    the best time. ``halve``: divide S' by 2, so that R_turn lies in [0, 1] and not in [0, 2].
    """

    format_weight: float = 0.1
    turn_weight: float = 0.45
    trajectory_weight: float = 0.45
    tau: float = REWARD_TAU_S
    matching: Literal["ground-truth-first", "prediction-first"] = "ground-truth-first"
    one_sided_agency: bool = True
    halve: bool = False

    def __post_init__(self) -> None:
        if min(self.format_weight, self.turn_weight, self.trajectory_weight) < 0:
            raise ValueError("weights of a reward must not be negative")
        if self.tau <= 0:
            raise ValueError(f"tau must be a positive number of seconds, got {self.tau}")


@dataclass(frozen=True)
class Reward:
    """A trajectory's reward and the parts that it is weighed from."""

    total: float
    format: float
    turn: float
    trajectory: float


class RubricJudge(Protocol):
    """Decides statements of a rubric that carry no ``check``."""

    def prepare(self, cases: Sequence[tuple[Annotation, Sequence[Response]]]) -> None:
        """Judge these trajectories, side by side where that is faster."""
        ...

    def holds(self, annotation: Annotation, responses: Sequence[Response]) -> list[bool]:
        """For each statement of the annotation's rubric without ``check``, in order."""
        ...


class RewardModel:
    """``judge`` gives S_acc, for all tasks but TG; ``rubric_judge`` is needed where a rubric has statements
    without ``check``.
    """

    def __init__(
        self, settings: RewardSettings, judge: Judge, rubric_judge: RubricJudge | None = None
    ) -> None:
        self.settings, self._judge, self._rubric_judge = settings, judge, rubric_judge

    def check(self, annotations: Sequence[Annotation]) -> None:
        """Raise ConfigError when R_traj can't be computed for one of these."""
        if self.settings.trajectory_weight == 0:
            return
        for annotation in annotations:
            where = f"{annotation.path}, line {annotation.line}: {annotation.id}"
            if not annotation.rubric:
                raise ConfigError(f"{where} has no rubric; write one, or set reward.trajectory_weight to 0")
            if self._rubric_judge is None and any(not item.get("check") for item in annotation.rubric):
                raise ConfigError(
                    f"{where} has a rubric that only a language model can judge; name one in [judge], or set "
                    "reward.trajectory_weight to 0"
                )

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Reward]:
        """Rewards in order. Raises an EdgeError when a judge cannot judge."""
        prepare(self._judge, [case for t in trajectories for case in self._cases(t)])
        if self._rubric_judge is not None and self.settings.trajectory_weight:
            self._rubric_judge.prepare([(t.prompt.truth, t.responses) for t in trajectories])
        return [self._reward(t) for t in trajectories]

    def _reward(self, trajectory: Trajectory) -> Reward:
        s, truth, responses = self.settings, trajectory.prompt.truth, trajectory.responses
        form = format_reward(trajectory.valid)
        turn = turn_reward(truth, responses, self._judge, s)
        whole = self._trajectory_reward(truth, responses) if s.trajectory_weight else 0.0
        total = s.format_weight * form + s.turn_weight * turn + s.trajectory_weight * whole
        return Reward(total, form, turn, whole)

    def _trajectory_reward(self, truth: Annotation, responses: Sequence[Response]) -> float:
        """R_traj: the mean of the rubric's binary checkpoints."""
        said = [r.text for r in sorted(responses, key=lambda r: r.time)]
        checks = [item["check"] for item in truth.rubric if item.get("check")]
        verdicts = [holds(check, said) for check in checks]
        if len(checks) < len(truth.rubric):
            assert self._rubric_judge is not None  # see check()
            verdicts += self._rubric_judge.holds(truth, responses)
        return sum(verdicts) / len(verdicts)

    def _cases(self, trajectory: Trajectory) -> list[Case]:
        """Every pair that matching may look at."""
        truth, s = trajectory.prompt.truth, self.settings
        return [
            Case(truth, answer, response)
            for answer, window in zip(truth.answers, _windows(truth, s), strict=True)
            for response in trajectory.responses
            if _within(window, response.time)
        ]


def format_reward(valid: Sequence[bool]) -> float:
    """R_fmt: share of timesteps whose output is one ``</Silence>`` or ``</Response>`` with text."""
    return sum(valid) / len(valid) if valid else 1.0


def turn_reward(
    annotation: Annotation, responses: Sequence[Response], judge: Judge, settings: RewardSettings
) -> float:
    """R_turn (equation 6) in [0, 2], or [0, 1] when halved.

    Where nothing is to be said, saying nothing is perfect; the paper does not say.
    """
    best = 1.0 if settings.halve else 2.0
    count = len(responses) + len(annotation.answers)
    if count == 0:
        return best
    if settings.matching == "ground-truth-first":
        matches = match_answers_first(
            annotation, responses, judge, tau=settings.tau, one_sided=settings.one_sided_agency
        )
    else:
        matches = _match_predictions_first(annotation, responses, judge, settings)
    total = sum(match.sum for match in matches if match is not None)
    return best * total / count


def _match_predictions_first(
    annotation: Annotation, responses: Sequence[Response], judge: Judge, settings: RewardSettings
) -> list[Match | None]:
    """StreamPro-F1's matching (section 3) with the reward's windows, tau and sum of scores."""
    task, asked = TASKS[annotation.task], annotation.query.time
    windows = _windows(annotation, settings)
    order = sorted(
        range(len(windows)),
        key=lambda i: task.best_time(annotation.answers[i].start, annotation.answers[i].end, asked),
    )
    kept: list[Match | None] = [None] * len(windows)
    for index in sorted(range(len(responses)), key=lambda i: responses[i].time):
        response = responses[index]
        target = next((i for i in order if _within(windows[i], response.time)), None)
        if target is None:
            continue
        answer = annotation.answers[target]
        time_score = task.time_score(response.time, answer.start, answer.end, asked, tau=settings.tau)
        match = Match(index, time_score, accuracy(judge, annotation, answer, response))
        best = kept[target]
        if match.sum > (best.sum if best else 0.0):
            kept[target] = match
    return kept


def _windows(annotation: Annotation, settings: RewardSettings) -> list[tuple[float, float]]:
    task = TASKS[annotation.task]
    return [
        task.reward_window(a.start, a.end, annotation.query.time, settings.tau, settings.one_sided_agency)
        for a in annotation.answers
    ]


def _within(window: tuple[float, float], time: float) -> bool:
    return window[0] - SLACK_S <= time <= window[1] + SLACK_S
