"""Trivial baselines: what a score is worth shows only beside what can be had without watching the video.

All of them see the question's task, its time and the length of the clip, and nothing of its frames. What
they say is the most frequent answer of the task in a file of annotations (:class:`Prior`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.metric.annotations import Annotation, Prediction, Response

EVERY_S = 5.0
"""Period of the baseline that keeps talking."""

TIMER_S = 6.0
"""Delay of the blind timer after the query."""


@dataclass(frozen=True)
class Prior:
    """The most frequent answer per task. ``source`` names the file it was counted in.

    A task that the file does not have gets the most frequent answer of the whole file; equally frequent
    answers are decided by the alphabet, so that the order of lines does not matter.
    """

    source: str
    by_task: dict[str, str]
    overall: str

    @classmethod
    def count(cls, annotations: Iterable[Annotation], source: str) -> Prior:
        """Count the answers of a file. One without any answer gives empty text, which is always wrong."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for annotation in annotations:
            counts[annotation.task].update(answer.text for answer in annotation.answers)
        by_task = {task: _most_frequent(c) for task, c in counts.items() if c}
        return cls(source, by_task, _most_frequent(sum(counts.values(), Counter())))

    def answer(self, task: str) -> str:
        """What to say to a question of ``task``."""
        return self.by_task.get(task, self.overall)


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda text: (-counts[text], text), default="")


def _never(annotation: Annotation) -> list[float]:
    return []


def _every(annotation: Annotation, period_s: float = EVERY_S) -> list[float]:
    asked, end = annotation.query.time, annotation.duration
    return [asked + i * period_s for i in range(int(max(0.0, end - asked) / period_s) + 1)]


def _at_end(annotation: Annotation) -> list[float]:
    return [max(annotation.query.time, annotation.duration)]


def _timer(annotation: Annotation) -> list[float]:
    return [max(annotation.query.time, min(annotation.query.time + TIMER_S, annotation.duration))]


BASELINES: dict[str, Callable[[Annotation], list[float]]] = {
    "always silent": _never,
    f"every {EVERY_S:g} s": _every,
    "once at the end": _at_end,
    f"{TIMER_S:g} s after the query": _timer,
}
"""Name of each baseline and the times at which it speaks."""


def predict(name: str, annotations: Sequence[Annotation], prior: Prior) -> list[Prediction]:
    """What the baseline ``name`` of BASELINES says to every question."""
    times = BASELINES[name]
    return [
        Prediction(a.id, tuple(Response(time, prior.answer(a.task)) for time in times(a)))
        for a in annotations
    ]
