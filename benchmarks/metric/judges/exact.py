"""The strictest judge: the same words or nothing."""

from __future__ import annotations

from benchmarks.metric.annotations import Annotation, Answer, Response
from benchmarks.metric.judges.base import normalise


class ExactJudge:
    """1 when response and answer are the same words, else 0. Case, punctuation and spacing do not matter.

    Not in the paper. Right for generated videos, whose answers have one wording; too strict for free text.
    """

    name = "exact"

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        said = normalise(response.text)
        return 1.0 if said and said == normalise(answer.text) else 0.0
