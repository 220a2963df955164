"""Captions of every second: who is there and what happens, to learn reading slots from before asking.

Among questions one timestep in thirty holds an answer. A caption of each teaches a decoder the words for what
it sees, and what changed since the timestep before, in a few hundred steps.
"""

from __future__ import annotations

from collections import Counter

from train.models.perception.nanodet import CLASSES
from train.synthetic.detections.catalog import VEHICLES
from train.synthetic.detections.facts import Answer, Facts, Question
from train.synthetic.detections.language import answer, of_class
from train.synthetic.detections.truth import CAMERA, Event, told_at

QUERY = "Say each second what is there and what happens."
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_MOST_EVENTS = 2
_MOST_CLASSES = 4


def captions(facts: Facts) -> Question:
    """A question that every second answers (task EC)."""
    told: dict[int, list[Event]] = {}
    for event in facts.events:
        told.setdefault(int(told_at(event)), []).append(event)
    answers = tuple(
        Answer(float(second), second + 1.0, _caption(facts, told.get(second, []), second + 1), ())
        for second in range(int(facts.scene.duration))
    )
    return Question("EC", "captions", 0.0, QUERY, answers)


def _caption(facts: Facts, events: list[Event], end: int) -> str:
    texts = dict.fromkeys(_told(facts, event) for event in events)
    return " ".join([*list(texts)[:_MOST_EVENTS], _present(facts, end)])


def _told(facts: Facts, event: Event) -> str:
    other = facts.kind(event.other) if event.other is not None else ""
    text = answer(event.kind, facts.kind(event.who), other)
    if event.kind != "enters" or event.who == CAMERA or facts.kind(event.who) not in ("person", *VEHICLES):
        return text
    return f"{text} In {facts.scene.actors[event.who].colour}."


def _present(facts: Facts, end: int) -> str:
    """ "Two people, one car." at the end of a second."""
    row = facts.in_view[min(end * 4, len(facts.in_view) - 1)]
    counts = Counter(actor.kind.name for actor, there in zip(facts.scene.actors, row, strict=True) if there)
    parts = []
    for name in sorted(counts, key=CLASSES.index)[:_MOST_CLASSES]:
        noun, count = of_class(name).canonical, min(counts[name], len(_NUMBERS) - 1)
        parts.append(f"{_NUMBERS[count]} {noun.bare if count == 1 else noun.plural}")
    text = ", ".join(parts) or "nothing"
    return f"{text[0].upper()}{text[1:]}."
