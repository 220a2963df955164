"""What became of every response and of every true answer: the marks that a timeline shows.

The matching is that of the score (:func:`benchmarks.metric.matching.match_predictions_first`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.judges import Judge
from benchmarks.metric.matching import Match, assign, match_predictions_first
from benchmarks.metric.tasks import TASKS

RIGHT_FROM = 0.5
"""S = S_time * S_acc from which a response is drawn as right rather than as partly right."""

VERDICTS = {
    "right": f"right: the match is worth {100 * RIGHT_FROM:.0f} points or more",
    "partial": f"partly right: worth something, but less than {100 * RIGHT_FROM:.0f} points",
    "wrong": "wrong words: in time, worth nothing",
    "surplus": "surplus: in the window of an answer that kept another response",
    "outside": "outside every window: said when nothing was due",
}
"""What can become of a response."""


@dataclass(frozen=True)
class AnswerVerdict:
    """``best`` and ``window``: seconds, first and last. ``match``: the response it kept, if any."""

    best: tuple[float, float]
    window: tuple[float, float]
    match: Match | None


@dataclass(frozen=True)
class ResponseVerdict:
    """``verdict``: a key of VERDICTS. ``answer``: index of the answer in whose window it was said.

    ``offset`` is its time minus the best time of that answer, or of the nearest one when it was said outside
    every window: negative when early, 0 anywhere within an interval that is best as a whole, None when the
    question has no answer.
    """

    verdict: str
    answer: int | None
    offset: float | None


@dataclass(frozen=True)
class QuestionVerdict:
    """All verdicts of one question, in the order of its answers and responses."""

    answers: tuple[AnswerVerdict, ...]
    responses: tuple[ResponseVerdict, ...]

    @property
    def failed(self) -> bool:
        """True when an answer got nothing of worth or a response earned nothing."""
        return any(a.match is None or a.match.product == 0 for a in self.answers) or any(
            r.verdict not in ("right", "partial") for r in self.responses
        )


def judge_question(annotation: Annotation, responses: Sequence[Response], judge: Judge) -> QuestionVerdict:
    """Verdicts of one question."""
    task, asked = TASKS[annotation.task], annotation.query.time
    matches = match_predictions_first(annotation, responses, judge)
    targets = assign(annotation, [response.time for response in responses])
    kept = {match.response: match for match in matches if match is not None}
    best = [task.best_time(a.start, a.end, asked) for a in annotation.answers]

    def verdict(index: int) -> str:
        if targets[index] is None:
            return "outside"
        if index not in kept:
            return "surplus"
        worth = kept[index].product
        return "right" if worth >= RIGHT_FROM else "partial" if worth > 0 else "wrong"

    def offset(index: int) -> float | None:
        time, target = responses[index].time, targets[index]
        candidates = best if target is None else [best[target]]
        return min((_offset(time, *span) for span in candidates), key=abs, default=None)

    return QuestionVerdict(
        answers=tuple(
            AnswerVerdict(best[i], task.window(a.start, a.end, asked), matches[i])
            for i, a in enumerate(annotation.answers)
        ),
        responses=tuple(ResponseVerdict(verdict(i), targets[i], offset(i)) for i in range(len(responses))),
    )


def _offset(time: float, first: float, last: float) -> float:
    return min(0.0, time - first) + max(0.0, time - last)
