"""When a model speaks: how far from the best time, and whether its decision score means what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.tasks import SLACK_S
from benchmarks.streampro.page.verdicts import QuestionVerdict

LIMIT_S = 10
"""Offsets beyond it are counted in the outermost bins of a histogram."""

PROBABILITY_BINS = 10


@dataclass(frozen=True)
class Earliness:
    """Responses by their offset from the best time, in bins of a second centred on whole seconds.

    ``offsets``: the centres, -LIMIT_S..LIMIT_S; the outermost also hold everything beyond. ``inside`` and
    ``outside``: responses in and out of a matching window. ``median_s`` is of those inside, None without any.
    """

    offsets: tuple[int, ...]
    inside: tuple[int, ...]
    outside: tuple[int, ...]
    median_s: float | None


@dataclass(frozen=True)
class ReliabilityBin:
    """Timesteps whose score lies in [``low``, ``high``): their number, mean score, share that was right."""

    low: float
    high: float
    timesteps: int
    score: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """Bins without a timestep are left out. ``error``: mean gap of score and share over timesteps (ECE)."""

    bins: tuple[ReliabilityBin, ...]
    timesteps: int
    questions: int
    error: float


def earliness(verdicts: Iterable[QuestionVerdict]) -> Earliness:
    """Histogram of the responses of some questions; those to a question without answers have no offset."""
    centres = range(-LIMIT_S, LIMIT_S + 1)
    inside, outside = [0] * len(centres), [0] * len(centres)
    within: list[float] = []
    for verdict in verdicts:
        for response in verdict.responses:
            if response.offset is None:
                continue
            centre = math.floor(max(-LIMIT_S, min(LIMIT_S, response.offset)) + 0.5)
            (outside if response.answer is None else inside)[centre + LIMIT_S] += 1
            if response.answer is not None:
                within.append(response.offset)
    return Earliness(tuple(centres), tuple(inside), tuple(outside), median(within) if within else None)


def right_moments(
    annotation: Annotation, responses: Sequence[Response], verdict: QuestionVerdict, times: Sequence[float]
) -> list[bool]:
    """Whether speaking at each time was right: in the window of an answer that was still open.

    An answer is open up to and with the response it kept, if that is worth anything; later it is answered.
    """
    closed = [
        responses[answer.match.response].time if answer.match and answer.match.product > 0 else math.inf
        for answer in verdict.answers
    ]
    return [
        any(
            answer.window[0] - SLACK_S <= time <= min(answer.window[1], last) + SLACK_S
            for answer, last in zip(verdict.answers, closed, strict=True)
        )
        for time in times
    ]


def reliability(steps: Iterable[tuple[float, bool]], questions: int) -> Reliability | None:
    """Diagram of ``(score, speaking was right)`` of the timesteps of ``questions``; None without any."""
    scores: list[list[float]] = [[] for _ in range(PROBABILITY_BINS)]
    rights = [0] * PROBABILITY_BINS
    for score, right in steps:
        index = min(int(score * PROBABILITY_BINS), PROBABILITY_BINS - 1)
        scores[index].append(score)
        rights[index] += right
    total = sum(map(len, scores))
    if not total:
        return None
    bins = tuple(
        ReliabilityBin(
            low=i / PROBABILITY_BINS,
            high=(i + 1) / PROBABILITY_BINS,
            timesteps=len(members),
            score=math.fsum(members) / len(members),
            right=rights[i] / len(members),
        )
        for i, members in enumerate(scores)
        if members
    )
    error = math.fsum(b.timesteps * abs(b.score - b.right) for b in bins) / total
    return Reliability(bins, total, questions, error)
