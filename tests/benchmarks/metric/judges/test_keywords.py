"""The judge ``keywords``: every group must match, case ignored, words in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import KeywordsJudge, open_judge
from benchmarks.metric.records import FormatError


def judged(said: str, keywords: object) -> float:
    answer = Answer(0.0, 1.0, "A dog leaves.", extra={} if keywords is None else {"keywords": keywords})
    question = Annotation("q", "v.mp4", 9.0, "OU", Query(0.0, "?"), (answer,), path=Path("a.jsonl"), line=3)
    return KeywordsJudge().accuracy(question, answer, Response(0.0, said))


GROUPS = [["dog", "puppy"], ["leav", "left"]]


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("A dog leaves.", 1.0),
        ("The PUPPY has Left the room", 1.0),
        ("A dog comes in.", 0.0),
        ("A cat leaves.", 0.0),
        ("", 0.0),
    ],
)
def test_every_group_must_match(said: str, right: float) -> None:
    assert judged(said, GROUPS) == right


@pytest.mark.parametrize("keywords", [None, [], "dog", ["dog"], {"dog": 1}])
def test_an_answer_without_usable_keywords_is_named(keywords: object) -> None:
    with pytest.raises(FormatError, match=r"a\.jsonl, line 3: answers\[\]\.keywords"):
        judged("A dog.", keywords)


def test_it_is_opened_by_its_name() -> None:
    assert isinstance(open_judge("keywords"), KeywordsJudge)
