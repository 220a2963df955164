"""How several questions share one session: each has a number, and a response names the question it answers.

A question stands in the prompt as ``1: Tell me when someone comes in.``, a response says ``1: Someone came
in.`` Answers to several questions at one timestep are lines of one response, in the order of their numbers.
A line break is the separator because no answer holds one: texts are made one line before they become tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_LINE = re.compile(r"([1-9][0-9]*): (\S.*)")
LINE_BREAK = "\n"


def numbered(number: int, text: str) -> str:
    """A question or an answer with its number, on one line."""
    return f"{number}: {' '.join(text.split())}"


def joined(answers: Mapping[int, str]) -> str:
    """One response that answers several questions, number to text."""
    return LINE_BREAK.join(numbered(number, answers[number]) for number in sorted(answers))


@dataclass(frozen=True)
class Answers:
    """What a response says to which question.

    ``texts``: number to text. ``unattributed``: lines that answer no question that is asked.
    """

    texts: Mapping[int, str]
    unattributed: tuple[str, ...] = ()


def split_answers(response: str, live: Collection[int]) -> Answers:
    """Read a response by its lines. ``live``: numbers of the questions that are asked.

    A line counts for a question only when it has the exact form ``N: text`` with a live number that no
    earlier line of the response has. Any other line is unattributed: it is never taken for an answer to
    another question.
    """
    texts: dict[int, str] = {}
    unattributed: list[str] = []
    for line in response.split(LINE_BREAK):
        found = _LINE.fullmatch(line)
        number = int(found[1]) if found and len(found[1]) < 4 else 0
        if found and number in live and number not in texts:
            texts[number] = found[2].rstrip()
        else:
            unattributed.append(line)
    return Answers(texts, tuple(unattributed))
