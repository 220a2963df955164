"""R_traj from statements about content, derived from the answers instead of written beforehand.

Most statements of a written rubric (how many responses, one sentence each, no repetition) hold of fluent
nonsense as well. These hold of a trajectory that says the right things only:

- one for each answer: a response of its own says it, at about its time;
- with several answers: what is said of them comes in their order, and something of them is said;
- nothing is said beyond the answers, and something of them is said.

A question without answers has one statement: nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.judges import Judge
from benchmarks.metric.matching import Match, match_answers_first
from train.rewards.base import Reward
from train.rollout.trajectory import Trajectory

RIGHT = 0.5
"""Accuracy from which a response says an answer."""


class ContentReward(Reward):
    """The share of these statements that hold, in [0, 1]. ``judge``: says what is right, within ``tau`` s."""

    def __init__(self, judge: Judge, tau: float) -> None:
        self._judge, self._tau = judge, tau

    def score(self, trajectory: Trajectory) -> float:
        truth, responses = trajectory.prompt.truth, trajectory.responses
        if not truth.answers:
            return float(not responses)
        said = right_responses(truth, responses, self._judge, self._tau)
        found = [match for match in said if match is not None]
        verdicts = [match is not None for match in said]
        if len(said) > 1:
            verdicts.append(bool(found) and _rising([responses[match.response].time for match in found]))
        verdicts.append(bool(found) and len(found) == len(responses))
        return sum(verdicts) / len(verdicts)


def right_responses(
    annotation: Annotation, responses: Sequence[Response], judge: Judge, tau: float
) -> list[Match | None]:
    """For each answer the response that says it within ``tau`` seconds of its time, if any."""
    matches = match_answers_first(annotation, responses, judge, tau=tau, product=True)
    return [match if match is not None and match.accuracy >= RIGHT else None for match in matches]


def _rising(times: Sequence[float]) -> bool:
    return all(a <= b for a, b in pairwise(times))
