"""From what can be seen to happen to questions with exact timed answers, in the annotation format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from train.synthetic.detections import truth
from train.synthetic.detections.catalog import COLOURS, MOBILE, VEHICLES
from train.synthetic.detections.facts import (
    COUNT_KINDS,
    EVENT_KINDS,
    THINGS,
    Answer,
    EventKind,
    Facts,
    Question,
)
from train.synthetic.detections.language import Subject, answer, ask, keywords, nouns, of_class, subjects
from train.synthetic.detections.truth import Event, told_at

MERGE_S = 1.5
"""Answers in the same words that come closer together than this are one."""
COMMON_KINDS = ("come_go", "enter", "leave", "narrate", "enter_colour", "enter_colour_person")
"""Kinds that nearly every story can answer: most often they are asked after all others."""


class Asker:
    """Draws questions about one story. ``paraphrase``: in words that training never uses."""

    def __init__(self, rng: np.random.Generator, facts: Facts, *, paraphrase: bool = False) -> None:
        self._rng = rng
        self._facts = facts
        self._paraphrase = paraphrase
        there = {actor.kind.name for n, actor in enumerate(facts.scene.actors) if facts.in_view[:, n].any()}
        self._there = there

    # ------------------------------------------------------------------ questions that something answers

    def about_events(self) -> list[Question]:
        """One question of every kind that the story has events for, each about a random subject of theirs."""
        made = []
        for kind in EVENT_KINDS:
            found = [event for event in self._facts.events if event.kind in kind.events]
            classes = {self._facts.kind(event.who) for event in found} & set(kind.of)
            if not classes:
                continue
            chosen = str(self._rng.choice(sorted(classes)))
            made.append(self._event_question(kind, self._subject(chosen)))
        return [question for question in made if question is not None and question.answers]

    def about_counts(self) -> list[Question]:
        """Two at once, three, only one left, nobody left."""
        made = []
        for name in COUNT_KINDS:
            classes = sorted(self._there & {*MOBILE, *THINGS})
            if classes:
                made.append(self._count_question(name, of_class(str(self._rng.choice(classes)))))
        return [question for question in made if question is not None and question.answers]

    def about_colours(self) -> list[Question]:
        """Someone in red, a white car: who comes in that colour."""
        actors = self._facts.scene.actors
        entering = [event for event in self._facts.events if event.kind == "enters"]
        entering = [event for event in entering if self._facts.kind(event.who) in ("person", *VEHICLES)]
        if not entering:
            return []
        event = entering[int(self._rng.integers(len(entering)))]
        return [self._colour_question(of_class(self._facts.kind(event.who)), actors[event.who].colour)]

    def about_camera(self) -> list[Question]:
        """The lens is covered, or the light goes out."""
        found = [event for event in self._facts.events if event.kind == "covered"]
        if not found:
            return []
        time = self._time(found[0].start)
        answers = self._answers(found, time, "AA")
        return [Question("AA", "covered", time, self._ask("covered"), answers)]

    def narrations(self) -> list[Question]:
        """EU: everything that happens, or what one subject does."""
        made = []
        told = [event for event in self._facts.events if not self._is_minor(event)]
        if 1 <= len(told) <= 14:
            time = self._time(told[0].start)
            made.append(
                Question("EU", "narrate", time, self._ask("narrate"), self._answers(told, time, "EU"))
            )
        by_class = Counter(self._facts.kind(event.who) for event in told if event.who != truth.CAMERA)
        busy = sorted(name for name, count in by_class.items() if count >= 2)
        if busy and len(by_class) > 1:
            subject = of_class(str(self._rng.choice(busy)))
            mine = [event for event in told if self._facts.kind(event.who) in subject.classes]
            time = self._time(mine[0].start)
            text = self._ask("narrate_subject", subject)
            answers = self._answers(mine, time, "EU")
            made.append(Question("EU", "narrate_subject", time, text, answers, about=subject.classes))
        return made

    def sequels(self) -> list[Question]:
        """TP: what happens after an event that happens once."""
        told = [event for event in self._facts.events if not self._is_minor(event)]
        texts = [self._say(event) for event in told]
        often = Counter(texts)
        places = [
            i for i in range(len(told) - 1) if often[texts[i]] == 1 and told[i + 1].start > told[i].end + 1
        ]
        if not places:
            return []
        i = places[int(self._rng.integers(len(places)))]
        first, second = told[i], told[i + 1]
        time = self._time(first.start)
        clause = texts[i][0].lower() + texts[i][1:].rstrip(".")
        return [
            Question("TP", "next", time, self._ask("next", event=clause), self._answers([second], time, "TP"))
        ]

    def groundings(self) -> list[Question]:
        """TG: the one stay of a subject, the first of several, or the one absence of a thing."""
        made = []
        for key in sorted(self._there & {*MOBILE, *THINGS}):
            subject = of_class(key)
            mine = [event for event in self._facts.events if self._facts.kind(event.who) == key]
            kinds = [
                event.kind
                for event in mine
                if event.kind in ("enters", "leaves", "is taken away", "is put back")
            ]
            if kinds == ["enters", "leaves"] and self._facts.present(subject).max() == 1:
                start = next(event.start for event in mine if event.kind == "enters")
                end = next(event.end for event in mine if event.kind == "leaves")
                made.append(self._grounding("when_stay", subject, start, end))
            elif kinds[:1] == ["enters"]:
                made.append(self._first_stay(subject, mine))
            elif kinds == ["is taken away", "is put back"]:
                start = next(event.end for event in mine if event.kind == "is taken away")
                end = next(event.start for event in mine if event.kind == "is put back")
                made.append(self._grounding("when_missing", subject, start, end))
        made = [question for question in made if question is not None]
        return [made[int(self._rng.integers(len(made)))]] if made else []  # type: ignore[list-item]

    def _first_stay(self, subject: Subject, events: Sequence[Event]) -> Question | None:
        """Of the first of ``subject`` that comes in; ``events``: all of theirs, in order."""
        comes = next(event for event in events if event.kind == "enters")
        goes = next((event for event in events if event.kind == "leaves" and event.who == comes.who), None)
        if goes is None or goes.end < comes.start:
            return None
        return self._grounding("when_stay", subject, comes.start, goes.end, phrases="when_first")

    def plans(self) -> list[Question]:
        """GP: things to put on the table in a given order; the next is named when one is there."""
        steps = [event for event in self._facts.events if event.kind == "is put down"]
        names = [self._facts.kind(event.who) for event in steps]
        if self._facts.family != "tabletop" or len(set(names)) < 2 or len(set(names)) != len(names):
            return []
        time = float(np.floor(max(0.0, min(steps[0].start - 2.0, self._rng.uniform(0, 8)))))
        listed = ", ".join(of_class(name).canonical.bare for name in names)
        begins = [time, *(event.end for event in steps)]
        answers = []
        for begin, name in zip(begins, [*names, ""], strict=True):
            noun = of_class(name).canonical if name else None
            text = f"Now put down {noun.the}." if noun else "That is all."
            groups = (tuple(nouns(name)),) if noun else (("all", "done", "finished"),)
            answers.append(Answer(begin, begin + 1.0, text, groups))
        return [Question("GP", "plan", time, self._ask("plan", list=listed), tuple(answers))]

    def hazards(self) -> list[Question]:
        """RF: what stands in the way of a camera that moves."""
        found = [event for event in self._facts.events if event.kind == "is in the way"]
        if self._facts.family not in ("walk", "drive") or not found:
            return []
        time = self._time(found[0].start - 5)
        answers = self._answers([event for event in found if event.start - 3 >= time], time, "RF")
        return [Question("RF", "in_way", time, self._ask("in_way"), answers)] if answers else []

    # ------------------------------------------------------------------ questions that nothing answers

    def quiet(self, count: int) -> list[Question]:
        """Questions that nothing answers; most are hard."""
        made: list[Question] = []
        for _ in range(count * 12):
            if len(made) == count:
                break
            draw = self._rng.random()
            if draw < 0.12:
                text = self._ask("unknown")
                if self._rng.random() < 0.5:
                    text = self._ask(self._pick(["enter", "leave", "come_go", "two"]), subjects()["unknown"])
                made.append(Question("AA", "unknown", self._early(), text, ()))
                continue
            if draw > 0.98:
                if not self.about_camera():
                    made.append(Question("AA", "covered", self._early(), self._ask("covered"), ()))
                continue
            if draw < 0.22:
                question = self._count_question(self._pick(list(COUNT_KINDS)), self._any_subject(hard=True))
            elif draw < 0.3:
                question = self._colour_question(
                    of_class(self._pick(["person", *VEHICLES])), self._pick(list(COLOURS))
                )
            elif draw < 0.34 and self._facts.family in ("walk", "drive"):
                hazard = any(event.kind == "is in the way" for event in self._facts.events)
                question = (
                    None if hazard else Question("RF", "in_way", self._early(), self._ask("in_way"), ())
                )
            else:
                kind = EVENT_KINDS[int(self._rng.integers(len(EVENT_KINDS)))]
                question = self._event_question(kind, self._any_subject(self._rng.random() < 0.7, kind.of))
            if question is not None and not question.answers:
                made.append(question)
        return made

    # ------------------------------------------------------------------ parts

    def _event_question(self, kind: EventKind, subject: Subject | None) -> Question | None:
        if subject is None:
            return None
        mine = [event for event in self._facts.events if event.kind in kind.events]
        others = [event for event in mine if self._facts.kind(event.who) not in subject.classes]
        mine = [event for event in mine if self._facts.kind(event.who) in subject.classes]
        time = self._time(mine[0].start) if mine else self._early()
        if kind.name == "enter" and self._facts.present(subject)[round(time * 4)] > 0:
            return None  # "is there a dog?" while there is one: what to answer is a matter of taste
        task = self._pick(list(kind.tasks))
        text = self._ask(kind.name, subject)
        hard = not mine and (bool(others) or bool(set(subject.classes) & self._there))
        return Question(task, kind.name, time, text, self._answers(mine, time, task), hard, subject.classes)

    def _count_question(self, name: str, subject: Subject | None) -> Question | None:
        if subject is None:
            return None
        before, after = COUNT_KINDS[name]
        number = self._facts.present(subject)
        rising = after > before
        found = [
            when
            for when, old, new in truth.changes(number, self._facts.view.times)
            if (rising and old < after <= new) or (not rising and old > new == after)
        ]
        time = self._time(found[0]) if found else self._early()
        at_start = int(number[min(round(time * 4), len(number) - 1)])
        if (rising and at_start >= after) or (not rising and at_start <= after and not found):
            return None  # it is so already when it is asked
        if self._facts.family == "tabletop" and subject.key == "person":
            return None  # hands
        text = self._ask(name, subject)
        who = subject.classes[0]
        answers = tuple(
            Answer(when, when + 1.0, answer(name, who), _groups(name, who)) for when in found if when >= time
        )
        return Question(
            "AA", name, time, text, answers, hard=bool(number.max()) and not found, about=subject.classes
        )

    def _colour_question(self, subject: Subject, colour: str) -> Question:
        actors = self._facts.scene.actors
        found = [
            event
            for event in self._facts.events
            if event.kind == "enters"
            and self._facts.kind(event.who) in subject.classes
            and actors[event.who].colour == colour
        ]
        time = self._time(found[0].start) if found else self._early()
        kind = "enter_colour_person" if subject.key == "person" else "enter_colour"
        text = self._ask(kind, subject, colour=colour)
        present = bool(set(subject.classes) & self._there)
        return Question(
            "AA", kind, time, text, self._answers(found, time, "AA"), present and not found, subject.classes
        )

    def _grounding(
        self, kind: str, subject: Subject, start: float, end: float, phrases: str = ""
    ) -> Question | None:
        if end - start < 2 or end > self._facts.scene.duration - 1.5:
            return None
        time = self._time(start)
        span = f"{int(start)}s-{int(end)}s"
        near = (str(int(end)), str(int(end) + 1), str(int(end) - 1))
        text = self._ask(phrases or kind, subject)
        return Question("TG", kind, time, text, (Answer(start, end, span, (near,)),), about=subject.classes)

    def _answers(self, events: Sequence[Event], time: float, task: str) -> tuple[Answer, ...]:
        """What is said of the events from ``time`` on; the same words twice in a moment once."""
        made: list[Answer] = []
        for event in sorted(events, key=told_at):
            start, text = told_at(event), self._say(event)
            if start < time:
                continue
            last = next((one for one in reversed(made) if one.text == text), None)
            if last is not None and start - last.start < MERGE_S:
                continue
            end = max(event.end, start + 1.0) if task in ("EU", "TP") else start + 1.0
            made.append(Answer(start, end, text, _groups(event.kind, self._facts.kind(event.who))))
        return tuple(made)

    def _say(self, event: Event) -> str:
        other = self._facts.kind(event.other) if event.other is not None else ""
        return answer(event.kind, self._facts.kind(event.who), other)

    def _is_minor(self, event: Event) -> bool:
        """What a narrator leaves out: hands over a table, and going on after a stop."""
        hand = self._facts.family == "tabletop" and self._facts.kind(event.who) == "person"
        return hand or event.kind in ("walks on", "is in the way")

    def _ask(self, kind: str, subject: Subject | None = None, **words: str) -> str:
        name = subject.draw(self._rng, self._paraphrase) if subject is not None else None
        return ask(self._rng, kind, name, paraphrase=self._paraphrase, **words)

    def _subject(self, name: str) -> Subject:
        """A subject that covers the class: mostly the class itself, now and then a wider one."""
        wider = [s for s in subjects().values() if name in s.classes and len(s.classes) > 1]
        if wider and self._rng.random() < 0.25:
            return wider[int(self._rng.integers(len(wider)))]
        return of_class(name)

    def _any_subject(self, hard: bool, of: Sequence[str] = (*MOBILE, *THINGS)) -> Subject | None:
        """One that is there (hard) or any."""
        among = sorted(set(of) & self._there) if hard else sorted(of)
        return self._subject(str(self._rng.choice(among))) if among else None

    def _time(self, before: float) -> float:
        """When a question is asked: a whole second at or before ``before``; often at the start."""
        latest = max(0, int(before))
        return 0.0 if self._rng.random() < 0.4 else float(self._rng.integers(0, min(latest, 25) + 1))

    def _early(self) -> float:
        return self._time(self._facts.scene.duration / 3)

    def _pick(self, among: list[str]) -> str:
        return among[int(self._rng.integers(len(among)))]


def ask_all(
    rng: np.random.Generator, facts: Facts, *, most: int, quiet: int, paraphrase: bool = False
) -> list[Question]:
    """Up to ``most`` questions that something answers, and ``quiet`` that nothing answers."""
    asker = Asker(rng, facts, paraphrase=paraphrase)
    groups: list[list[Question]] = [
        make()
        for make in (
            asker.narrations, asker.sequels, asker.groundings, asker.plans, asker.hazards,
            asker.about_colours, asker.about_camera, asker.about_counts, asker.about_events,
        )
    ]  # fmt: skip
    found = [question for group in groups for question in group if question.answers]
    rare = [question for question in found if question.kind not in COMMON_KINDS]
    common = [question for question in found if question.kind in COMMON_KINDS]
    ordered = (
        [*_shuffled(rng, rare), *_shuffled(rng, common)] if rng.random() < 0.6 else _shuffled(rng, found)
    )
    return [*ordered[:most], *asker.quiet(quiet)]


def _shuffled(rng: np.random.Generator, questions: list[Question]) -> list[Question]:
    return [questions[i] for i in rng.permutation(len(questions))]


def _groups(kind: str, who: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in keywords(kind, who))
