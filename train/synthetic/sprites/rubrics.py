"""Trajectory rubrics in checkable form (paper section 4.2, appendix B.1): granularity, coherence, coverage.

The paper has a language model write and judge 6 to 10 statements a sample. Here the truth is known, so each
statement carries ``check``, which :func:`holds` decides from the responses alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

MOST_RUBRICS = 10


def write_rubric(answers: list[str]) -> list[dict[str, Any]]:
    """Six to ten checkpoints for a trajectory whose ground-truth texts are ``answers`` in order of time."""
    distinct = list(dict.fromkeys(answers))
    n = len(answers)
    made: list[tuple[str, str, dict[str, Any]]] = [
        (
            "granularity",
            f"The trajectory must hold at most {n + 1} responses.",
            {"kind": "at_most", "count": n + 1},
        ),
        (
            "granularity",
            f"The trajectory must hold at least {n} responses.",
            {"kind": "at_least", "count": n},
        ),
        ("granularity", "Each response must be one sentence.", {"kind": "one_sentence"}),
        (
            "coherence",
            "What happens must be told in the order in which it happens.",
            {"kind": "in_order", "texts": answers},
        ),
        ("coherence", "No response may repeat the one before it.", {"kind": "no_repeat", "texts": answers}),
        ("coverage", "Nothing may be told that does not happen.", {"kind": "only", "texts": distinct}),
    ]
    for text in distinct[: MOST_RUBRICS - len(made)]:
        made.append(("coverage", f"The trajectory must say: {text}", {"kind": "mentions", "text": text}))
    return [
        {"rubric_id": i, "dimension": dimension, "rubric": rubric, "check": check}
        for i, (dimension, rubric, check) in enumerate(made)
    ]


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def holds(check: dict[str, Any], responses: list[str]) -> bool:
    """Whether the responses, in order of time, satisfy one ``check``.

    Raises ValueError on an unknown kind.
    """
    said = [_plain(r) for r in responses]
    kind = check["kind"]
    if kind == "at_most":
        return len(said) <= int(check["count"])
    if kind == "at_least":
        return len(said) >= int(check["count"])
    if kind == "one_sentence":
        return bool(said) and all(s and ". " not in s for s in said)
    if kind == "mentions":
        return _plain(check["text"]) in said
    texts = [_plain(t) for t in check["texts"]]
    if kind == "in_order":  # the true texts that were said form a subsequence of the truth
        rest = iter(texts)
        return bool(said) and all(any(s == t for t in rest) for s in said if s in texts)
    if kind == "no_repeat":
        allowed = {a for a, b in pairwise(texts) if a == b}
        return bool(said) and all(a != b or a in allowed for a, b in pairwise(said))
    if kind == "only":
        return bool(said) and all(s in texts for s in said)
    raise ValueError(f"unknown rubric check kind {kind!r}")
