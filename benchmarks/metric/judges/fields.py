"""A judge of generated clips: what share of an answer's facts a response has right.

The world speaks in a few sentence forms, so an answer is a handful of slots: in "The lock is now open." the
subject and the state. Right object and wrong state is half right, where the exact judge says wrong. Note
that half a point can be had for repeating what the question names; the baselines beside a score show it.
"""

from __future__ import annotations

import re

from benchmarks.metric.annotations import Annotation, Answer, Response
from benchmarks.metric.judges.base import normalise

ACTIONS = (
    *("enters", "leaves", "appears", "fades away", "passes by", "grows", "shrinks", "spins", "jumps"),
    *("moves left", "moves right", "moves up", "moves down", "falls over", "gets up"),
)
"""Everything that an actor does. A sentence with another verb is not from generated clips."""

WORDS = r"(?!the )\S+(?: (?!the )\S+){0,3}"
"""A name or a state: at most four words and no article, so that two sentences are never read as one."""

SENTENCES = tuple(
    re.compile(form)
    for form in (
        rf"the (?P<subject>{WORDS}) is now (?P<state>{WORDS})",
        rf"the (?P<subject>{WORDS}) (?P<action>{'|'.join(ACTIONS)})",
        rf"the (?P<ingredient>{WORDS}) goes into the pot",
        rf"add the (?P<instruction>{WORDS})",
        rf"the (?P<dish>{WORDS}) is ready",
        rf"alert (?P<anomaly>{WORDS})",
        rf"watch out (?P<hazard>{WORDS}) ahead",
    )
)
"""Sentence forms over normalised text; the first that fits is taken. Slots of equal name are comparable."""


class FieldsJudge:
    """Share of the slots of answer and response, taken together, in which the two agree.

    A response of another form than the answer's agrees at most in the subject. Text that is not of the world
    is judged by its exact words.
    """

    name = "fields"

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        true, said = normalise(answer.text), normalise(response.text)
        slots, said_slots = read_slots(true), read_slots(said)
        if not slots or not said_slots:
            return 1.0 if said and said == true else 0.0
        names = slots.keys() | said_slots.keys()
        return sum(slots.get(name) == said_slots.get(name) for name in names) / len(names)


def read_slots(text: str) -> dict[str, str]:
    """Slots of one normalised sentence; empty when it has none of the world's forms."""
    for form in SENTENCES:
        match = form.fullmatch(text)
        if match:
            return match.groupdict()
    return {}
