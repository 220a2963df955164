"""R_turn: how well the responses match the answers in time and content (paper section 4.2, equation 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.judges import Case, Judge, accuracy, prepare
from benchmarks.metric.matching import Match, match_answers_first
from benchmarks.metric.tasks import REWARD_TAU_S, SLACK_S, TASKS
from train.rewards.base import Judges, Reward, RewardSettings
from train.rollout.trajectory import Trajectory

Window = tuple[float, float]


@dataclass(frozen=True)
class TurnSettings(RewardSettings):
    """``[rewards.turn]``, with the paper's constants. ``tau``: seconds, of time scores and matching windows.

    ``matching``: "ground-truth-first" is the paper's algorithm 1; "prediction-first" gives each response, in
    time order, to the first answer whose window holds it. ``one_sided_agency``: windows of GP and RF end at
    the best time. ``halve``: divide S' by 2, so that R_turn lies in [0, 1] and not in [0, 2]. ``combine``:
    "sum" is the paper's S' = S_time + S_acc, which pays for a wrong text at the right time; "product" is
    S' = 2 S_time S_acc, which does not.
    """

    weight: float = 0.45
    tau: float = REWARD_TAU_S
    matching: Literal["ground-truth-first", "prediction-first"] = "ground-truth-first"
    one_sided_agency: bool = True
    halve: bool = False
    combine: Literal["sum", "product"] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau <= 0:
            raise ValueError(f"tau must be a positive number of seconds, got {self.tau}")

    def build(self, judges: Judges) -> Reward:
        return TurnReward(self, judges.text)

    def merit(self, match: Match) -> float:
        """S' in [0, 2] of a response that is matched to an answer."""
        return match.sum if self.combine == "sum" else 2 * match.product

    def windows(self, annotation: Annotation) -> list[Window]:
        """For each answer the seconds in which a response may match it."""
        task, asked = TASKS[annotation.task], annotation.query.time
        return [
            task.reward_window(a.start, a.end, asked, self.tau, self.one_sided_agency)
            for a in annotation.answers
        ]


class TurnReward(Reward):
    """R_turn = 2 sum S' / (N_pred + N_gt), with S' = S_time + S_acc of the matched responses."""

    def __init__(self, settings: TurnSettings, judge: Judge) -> None:
        self._settings, self._judge = settings, judge

    def prepare(self, trajectories: Sequence[Trajectory]) -> None:
        prepare(self._judge, [case for trajectory in trajectories for case in self._cases(trajectory)])

    def score(self, trajectory: Trajectory) -> float:
        return turn_reward(trajectory.prompt.truth, trajectory.responses, self._judge, self._settings)

    def _cases(self, trajectory: Trajectory) -> list[Case]:
        """Every pair that matching may look at."""
        truth = trajectory.prompt.truth
        return [
            Case(truth, answer, response)
            for answer, window in zip(truth.answers, self._settings.windows(truth), strict=True)
            for response in trajectory.responses
            if _within(window, response.time)
        ]


def turn_reward(
    annotation: Annotation, responses: Sequence[Response], judge: Judge, settings: TurnSettings
) -> float:
    """R_turn (equation 6) in [0, 2], or [0, 1] when halved.

    Where nothing is to be said, saying nothing is perfect, which the paper leaves open; any response makes
    it 0, as equation 6 has it. ``[rewards.restraint]`` tells one false alarm from many.
    """
    best = 1.0 if settings.halve else 2.0
    count = len(responses) + len(annotation.answers)
    if count == 0:
        return best
    if settings.matching == "ground-truth-first":
        matches = match_answers_first(
            annotation,
            responses,
            judge,
            tau=settings.tau,
            one_sided=settings.one_sided_agency,
            product=settings.combine == "product",
        )
    else:
        matches = _match_predictions_first(annotation, responses, judge, settings)
    total = sum(settings.merit(match) for match in matches if match is not None)
    return best * total / count


def _match_predictions_first(
    annotation: Annotation, responses: Sequence[Response], judge: Judge, settings: TurnSettings
) -> list[Match | None]:
    """StreamPro-F1's matching (section 3) with the reward's windows, tau and sum of scores."""
    task, asked = TASKS[annotation.task], annotation.query.time
    windows = settings.windows(annotation)
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
        if settings.merit(match) > (settings.merit(best) if best else 0.0):
            kept[target] = match
    return kept


def _within(window: Window, time: float) -> bool:
    return window[0] - SLACK_S <= time <= window[1] + SLACK_S
