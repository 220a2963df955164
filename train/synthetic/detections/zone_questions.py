"""Questions about zones: who enters one, is in one, leaves one, runs across one, stops in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.synthetic.detections.catalog import MOBILE, VEHICLES
from train.synthetic.detections.facts import Answer, EventKind, Facts, Question
from train.synthetic.detections.language import Subject, answer, keywords
from train.synthetic.detections.questions import MERGE_S, Asker
from train.synthetic.detections.truth import Event, told_at
from train.synthetic.detections.zones import Zones

ZONE_KINDS = (
    EventKind("zone_enter", ("enters zone",), ("AA", "OU"), MOBILE),
    EventKind("zone_in", ("enters zone",), ("AA", "OU"), MOBILE),
    EventKind("zone_leave", ("leaves zone",), ("AA", "OU"), MOBILE),
    EventKind("zone_runs", ("runs across zone",), ("AA",), ("person",)),
    EventKind("zone_stop", ("stops in zone",), ("AA", "OU"), ("person", *VEHICLES, "dog", "cat")),
)
RARE = ("zone_runs", "zone_stop")
"""Kinds that few stories can answer: most often they are asked before all others."""
QUIET = (0.32, 0.28, 0.19, 0.06, 0.15)
"""Shares of :data:`ZONE_KINDS` among the questions that nothing answers."""
ABSENT = 0.12
"""Share of the questions that nothing answers that are about a zone the camera does not have."""


class ZoneAsker(Asker):
    """Draws questions about one story's zones."""

    def __init__(
        self, rng: np.random.Generator, facts: Facts, zones: Zones, *, paraphrase: bool = False
    ) -> None:
        super().__init__(rng, facts, paraphrase=paraphrase)
        self._zones = zones
        self._events = [zones.events(number, facts) for number in range(len(zones.polygons))]

    def answered(self) -> list[Question]:
        """One question of every kind that a zone has events for, in random order, or the rare ones first."""
        made = []
        for kind in ZONE_KINDS:
            choices = sorted(
                {
                    (number, self._facts.kind(event.who))
                    for number, events in enumerate(self._events)
                    for event in events
                    if event.kind in kind.events and self._facts.kind(event.who) in kind.of
                }
            )
            if choices:
                number, name = choices[int(self._rng.integers(len(choices)))]
                made.append(self._zone_question(kind, number, self._subject(name)))
        found = [question for question in made if question is not None and question.answers]
        found = [found[i] for i in self._rng.permutation(len(found))]
        return sorted(found, key=lambda one: one.kind not in RARE) if self._rng.random() < 0.6 else found

    def unanswered(self, count: int) -> list[Question]:
        """Questions that nothing answers; in most the subject is there, outside the zone or doing something
        else in it.
        """
        made: list[Question] = []
        there = self._zones.numbers
        for _ in range(count * 12):
            if len(made) == count:
                break
            kind = ZONE_KINDS[int(self._rng.choice(len(ZONE_KINDS), p=QUIET))]
            absent = [number for number in range(len(self._zones.polygons)) if number not in there]
            among = absent if absent and self._rng.random() < ABSENT else there
            number = among[int(self._rng.integers(len(among)))]
            question = self._zone_question(
                kind, number, self._any_subject(self._rng.random() < 0.85, kind.of)
            )
            if question is not None and not question.answers:
                made.append(question)
        return made

    def _zone_question(self, kind: EventKind, number: int, subject: Subject | None) -> Question | None:
        if subject is None:
            return None
        actors = self._facts.scene.actors
        members = [n for n, actor in enumerate(actors) if actor.kind.name in subject.classes]
        if self._zones.unsure[number, members].any():
            return None
        mine = [e for e in self._events[number] if e.kind in kind.events and e.who in members]
        time = self._time(mine[0].start) if mine else self._early()
        inside = self._zones.inside[number][:, members].any(axis=1)  # [T]
        if kind.name in ("zone_in", "zone_enter") and inside[round(time * 4)]:
            return None  # "is someone on the lawn?" while there is: what to answer is a matter of taste
        zone = f"zone {number + 1}"
        text = self._ask(kind.name, subject, zone=zone)
        task = self._pick(list(kind.tasks))
        told = "is in zone" if kind.name == "zone_in" else kind.events[0]
        answers = self._zone_answers(mine, time, told, zone)
        if mine and not answers:
            return None
        return Question(
            task,
            kind.name,
            time,
            text,
            answers,
            not mine and bool(set(subject.classes) & self._there),
            subject.classes,
        )

    def _zone_answers(self, events: Sequence[Event], time: float, told: str, zone: str) -> tuple[Answer, ...]:
        """What is said of the events from ``time`` on; the same words twice in a moment once."""
        made: list[Answer] = []
        for event in events:
            start = told_at(event)
            who = self._facts.kind(event.who)
            text = answer(told, who, zone=zone)
            last = next((one for one in reversed(made) if one.text == text), None)
            if start < time or (last is not None and start - last.start < MERGE_S):
                continue
            groups = (*(tuple(group) for group in keywords(told, who)), (zone,))
            made.append(Answer(start, start + 1.0, text, groups))
        return tuple(sorted(made, key=lambda one: one.start))


def ask_zones(
    rng: np.random.Generator, facts: Facts, zones: Zones, *, most: int, quiet: float, paraphrase: bool = False
) -> list[Question]:
    """Up to ``most`` questions that something answers, and on average ``quiet`` that nothing answers."""
    if any(event.kind == "covered" for event in facts.events):
        return []  # in the dark it cannot be seen who is where
    asker = ZoneAsker(rng, facts, zones, paraphrase=paraphrase)
    count = int(quiet) + int(rng.random() < quiet % 1)
    return [*asker.answered()[:most], *asker.unanswered(count)]
