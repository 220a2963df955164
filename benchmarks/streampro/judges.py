"""Judges: how right is a response, from 0 (wrong) to 1 (accurate and complete).

The paper's judge is a language model that gives 0 to 5 points, divided by 5, for every task but temporal
grounding, which is always scored by the temporal IoU. A judge here is anything with a ``name`` and an
``accuracy`` method; :data:`JUDGES` lists those that the command line knows. :func:`accuracy` is what matching
calls: it sends temporal grounding to :class:`IouJudge` whatever the judge.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Protocol

from benchmarks.streampro.annotations import Annotation, Answer, Response
from edge_runtime.errors import ConfigError


class Judge(Protocol):
    """Scores one response against one true answer. Equal arguments must give equal scores."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        """S_acc in [0, 1]."""
        ...


class ExactJudge:
    """1 when response and answer are the same words, else 0. Case, punctuation and spacing do not matter.

    Not in the paper. Right for generated videos, whose answers have one wording; too strict for free text.
    """

    name = "exact"

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        said = normalise(response.text)
        return 1.0 if said and said == normalise(answer.text) else 0.0


class IouJudge:
    """Temporal IoU of the interval that the response names with the answer's ``start`` and ``end``.

    A response without a readable interval, or with one that ends before it starts, scores 0.
    """

    name = "iou"

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        said = parse_interval(response.text)
        if said is None:
            return 0.0
        true = (answer.start, answer.end)
        union = max(said[1], true[1]) - min(said[0], true[0])
        if union == 0:  # both are the same single moment
            return 1.0
        return max(0.0, min(said[1], true[1]) - max(said[0], true[0])) / union


JUDGES: dict[str, Callable[[], Judge]] = {"exact": ExactJudge}
"""Judges by the name the command line takes."""

_IOU = IouJudge()


def open_judge(name: str) -> Judge:
    """A judge by name. Raises ConfigError that lists the known ones."""
    if name not in JUDGES:
        raise ConfigError(f"judge {name!r} is not known; choose one of {', '.join(JUDGES)}")
    return JUDGES[name]()


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


_SECONDS = r"(?:seconds|second|secs|sec|s)"
_INTERVAL = (
    r"(?<![\d.:])(\d+(?:\.\d+)?) ?{first} ?(?:[-\u2010-\u2014\u2212~]|to|until|till|and) ?"
    r"(\d+(?:\.\d+)?) ?{last}(?![\w:])"
)
_PATTERNS = (
    re.compile(_INTERVAL.format(first=_SECONDS, last=_SECONDS)),
    re.compile(_INTERVAL.format(first=_SECONDS + "?", last=_SECONDS + "?")),
)


def parse_interval(text: str) -> tuple[float, float] | None:
    """The first ``Xs-Ys`` of a text in seconds, or None. An interval that ends before it starts gives None.

    ``<12s-20s>``, ``12.5s - 20s``, ``from 12 s to 20 s`` and ``12-20`` are read; an interval with units is
    preferred to one without, so that "2-3 people, 12s-20s" is understood. Minutes (``0:12``) are not.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    for pattern in _PATTERNS:
        match = pattern.search(plain)
        if match:
            start, end = float(match[1]), float(match[2])
            return (start, end) if start <= end and math.isfinite(end) else None
    return None
