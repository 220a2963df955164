"""Temporal grounding: how well an interval named in free text covers the true one."""

from __future__ import annotations

import math
import re
import unicodedata

from benchmarks.metric.annotations import Annotation, Answer, Response


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
