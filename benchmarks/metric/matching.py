"""Which response belongs to which true answer: once for the benchmark, once for the training reward.

Both give, for each answer of a question in the file's order, its :class:`Match` or None. Where the paper is
silent: "first" and "in order" mean by best response time, and equal times keep the file's order; of
candidates with the same score an answer keeps the better timed one, then the earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.metric.annotations import Annotation, Answer, Response
from benchmarks.metric.judges import Judge, accuracy
from benchmarks.metric.tasks import REWARD_TAU_S, SLACK_S, TASKS


@dataclass(frozen=True)
class Match:
    """A response (by its index in the given sequence) that was given to an answer, with its two scores."""

    response: int
    time_score: float
    accuracy: float

    @property
    def product(self) -> float:
        """S of StreamPro-F1: S_time * S_acc, in [0, 1]."""
        return self.time_score * self.accuracy

    @property
    def sum(self) -> float:
        """S' of the turn reward: S_time + S_acc, in [0, 2]."""
        return self.time_score + self.accuracy


def match_predictions_first(
    annotation: Annotation, responses: Sequence[Response], judge: Judge
) -> list[Match | None]:
    """Matching of StreamPro-F1 (paper section 3, appendix A.2).

    Responses in time order; each goes to the first answer whose window holds it, and to no other; an answer
    keeps the best S of the responses that went to it.
    """
    task, asked = TASKS[annotation.task], annotation.query.time
    kept: list[Match | None] = [None] * len(annotation.answers)
    targets = assign(annotation, [response.time for response in responses])
    for index in sorted(range(len(responses)), key=lambda i: responses[i].time):
        response, target = responses[index], targets[index]
        if target is None:
            continue
        answer = annotation.answers[target]
        candidate = Match(
            index,
            task.time_score(response.time, answer.start, answer.end, asked),
            accuracy(judge, annotation, answer, response),
        )
        best = kept[target]
        if best is None or _by_product(candidate) > _by_product(best):
            kept[target] = candidate
    return kept


def assign(annotation: Annotation, times: Sequence[float]) -> list[int | None]:
    """For each time the index of the answer a response would go to: the first whose window holds it."""
    task, asked = TASKS[annotation.task], annotation.query.time
    order = _answers_in_order(annotation)
    windows = [task.window(a.start, a.end, asked) for a in annotation.answers]
    return [next((i for i in order if _holds(windows[i], time)), None) for time in times]


def match_answers_first(
    annotation: Annotation,
    responses: Sequence[Response],
    judge: Judge,
    *,
    tau: float = REWARD_TAU_S,
    one_sided: bool = True,
    product: bool = False,
) -> list[Match | None]:
    """Matching of the turn reward (paper section 4.2, algorithm 1), with its windows and tau in seconds.

    Answers in order; each takes, of the responses in its window that no other has taken, the one with the
    highest S', which must be above 0. ``product``: S of StreamPro-F1 takes the place of S'.
    """
    merit = _by_product if product else _by_sum
    task, asked = TASKS[annotation.task], annotation.query.time
    kept: list[Match | None] = [None] * len(annotation.answers)
    free = sorted(range(len(responses)), key=lambda i: responses[i].time)
    for target in _answers_in_order(annotation):
        answer = annotation.answers[target]
        window = task.reward_window(answer.start, answer.end, asked, tau, one_sided)
        best: Match | None = None
        for index in free:
            response = responses[index]
            if not _holds(window, response.time):
                continue
            candidate = Match(
                index,
                task.time_score(response.time, answer.start, answer.end, asked, tau=tau),
                accuracy(judge, annotation, answer, response),
            )
            if merit(candidate)[0] > 0 and (best is None or merit(candidate) > merit(best)):
                best = candidate
        if best is not None:
            kept[target] = best
            free.remove(best.response)
    return kept


def _answers_in_order(annotation: Annotation) -> list[int]:
    task, asked = TASKS[annotation.task], annotation.query.time

    def best_time(index: int) -> tuple[float, float]:
        answer: Answer = annotation.answers[index]
        return task.best_time(answer.start, answer.end, asked)

    return sorted(range(len(annotation.answers)), key=best_time)


def _holds(window: tuple[float, float], time: float) -> bool:
    return window[0] - SLACK_S <= time <= window[1] + SLACK_S


def _by_product(match: Match) -> tuple[float, float]:
    return match.product, match.time_score


def _by_sum(match: Match) -> tuple[float, float]:
    return match.sum, match.time_score
