"""A judge for free wording: a right response has a word of every group of the answer's ``keywords``.

``keywords`` of an answer is a list of groups, each a list of strings. A group matches when one of its
strings occurs in the response, case ignored, as part of a word or whole ("leav" for leaves and leaving).
"""

from __future__ import annotations

from benchmarks.metric.annotations import Annotation, Answer, Response
from benchmarks.metric.records import FormatError


class KeywordsJudge:
    """1 when every group matches, else 0. Raises FormatError for an answer that has no keywords."""

    name = "keywords"

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        groups = answer.extra.get("keywords")
        if not isinstance(groups, list) or not groups or not all(isinstance(group, list) for group in groups):
            raise FormatError(
                f"{annotation.path}, line {annotation.line}: answers[].keywords: expected a list of lists of "
                "strings, which the judge `keywords` needs; add it or choose another judge"
            )
        said = response.text.casefold()
        return float(all(any(str(word).casefold() in said for word in group) for group in groups))
