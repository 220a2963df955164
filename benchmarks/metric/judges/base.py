"""What a judge is, and the one way to call it.

The paper's judge is a language model that gives 0 to 5 points, divided by 5, for every task but temporal
grounding, which is always scored by the temporal IoU. A judge here is anything with a ``name`` and an
``accuracy`` method. One that is slow for each pair alone also has ``prepare``, which gets all pairs of a
score beforehand, so that it can judge them side by side.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from benchmarks.metric.annotations import Annotation, Answer, Response
from benchmarks.metric.judges.iou import IouJudge


class Judge(Protocol):
    """Scores one response against one true answer. Equal arguments must give equal scores."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        """S_acc in [0, 1]. One that cannot judge raises an EdgeError; 0 always means a wrong response."""
        ...


class Case(NamedTuple):
    """One thing to judge: a response set against one true answer of a question."""

    annotation: Annotation
    answer: Answer
    response: Response


@runtime_checkable
class BatchJudge(Judge, Protocol):
    """A judge that wants to know beforehand what it will be asked."""

    def prepare(self, cases: Sequence[Case]) -> None:
        """Judge all ``cases``, so that ``accuracy`` knows them. Raises EdgeError when it cannot."""
        ...


_IOU = IouJudge()


def prepare(judge: Judge, cases: Iterable[Case]) -> None:
    """Hand a judge everything it will be asked; temporal grounding is not its business."""
    if isinstance(judge, BatchJudge):
        judge.prepare([case for case in cases if case.annotation.task != "TG"])


def accuracy(judge: Judge, annotation: Annotation, answer: Answer, response: Response) -> float:
    """S_acc in [0, 1] of one response: temporal IoU for temporal grounding, else what ``judge`` says.

    Raises ValueError when a judge leaves the range, which is a fault of the judge and not of the input.
    """
    chosen = _IOU if annotation.task == "TG" else judge
    value = chosen.accuracy(annotation, answer, response)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"judge {chosen.name!r} gave {value} for {annotation.id}, not a number from 0 to 1")
    return value


def normalise(text: str) -> str:
    """Words of a text in one form: compatibility forms folded, lower case, only letters and digits kept."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if _is_word(c) else " " for c in folded).split())


def _is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"
