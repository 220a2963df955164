"""Every phrasing reads well with every subject it can be asked of."""

from __future__ import annotations

import itertools
import re
import sys
from importlib import resources
from typing import Any

import numpy as np
import pytest

from train.models.perception.nanodet import CLASSES
from train.synthetic.detections import language
from train.synthetic.detections.catalog import COLOURS, MOBILE
from train.synthetic.detections.facts import COUNT_KINDS, EVENT_KINDS, THINGS
from train.synthetic.detections.language import Name, Subject, ask, fill, of_class, subjects
from train.synthetic.detections.zone_questions import ZONE_KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def table(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(language).joinpath(name).read_text(encoding="utf-8"))


PHRASES = table("phrases.toml")
KINDS = sorted(set(PHRASES) - {"openers", "extras"})
WORDS = {"event": "a dog comes in", "list": "cup, bowl", "zone": "zone 1"}


def phrasings(kind: str) -> list[str]:
    entry, openers = PHRASES[kind], PHRASES["openers"]
    shared = [opener for name in entry.get("openers", []) for opener in openers[name]]
    made = [f"{a} {b}" for a, b in itertools.product(entry.get("own", shared), entry.get("cores", []))]
    return [*made, *entry.get("whole", [])]


def asked_of(kind: str) -> list[Subject]:
    """All subjects that questions of a kind can be about."""
    classes: dict[str, tuple[str, ...]] = {entry.name: entry.of for entry in (*EVENT_KINDS, *ZONE_KINDS)}
    classes |= dict.fromkeys([*COUNT_KINDS, "narrate_subject", "when_stay", "when_first"], (*MOBILE, *THINGS))
    classes |= {"when_missing": THINGS, "enter_colour_person": ("person",)}
    classes |= {"enter_colour": ("car", "truck", "bus", "motorcycle")}
    found = {of_class(name).key: of_class(name) for name in classes.get(kind, ())}
    wider = [s for s in subjects().values() if set(s.classes) & set(classes.get(kind, ()))]
    wider += [subjects()["unknown"]] if kind in ("enter", "leave", "come_go", "two") else []
    return [*found.values(), *(subject for subject in wider if subject.key not in found)]


def names(subject: Subject) -> list[Name]:
    return [*subject.names, *subject.held_out]


@pytest.mark.parametrize("kind", KINDS)
def test_every_phrasing_formats_for_every_subject(kind: str) -> None:
    entry = PHRASES[kind]
    shared = [*entry.get("own", []), *entry.get("cores", []), *entry.get("whole", []), *entry["held_out"]]
    colours = COLOURS if "colour" in kind else ["red"]
    for name in [name for subject in asked_of(kind) for name in names(subject)] or [None]:
        group = entry.get(name.group, {}) if name else {}
        parts = [*shared, *group.get("cores", []), *group.get("whole", [])]
        for phrase, colour in itertools.product(parts, colours):
            text = fill(phrase, name, colour=colour, **WORDS)
            assert "{" not in text and "  " not in text, text
            assert not re.search(
                r"\ban? an? |\ba (an|the|my|some|any)\b|\b(the|an?) some(one|body)\b", text
            ), text
            assert not re.search(r"\b[Aa] (orange|apple|umbrella|animal|object|item|intruder)\b", text), text
            assert not re.search(r"\b[Tt]hey (leaves|is|goes|has|does|moves|stops)\b", text), text


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_at_least_forty_phrasings_and_some_are_held_out(kind: str) -> None:
    known = phrasings(kind)
    assert len(set(known)) >= 40
    assert PHRASES[kind]["held_out"] and not set(PHRASES[kind]["held_out"]) & {
        *known,
        *PHRASES[kind].get("cores", []),
    }


def test_phrases_of_a_group_are_asked_of_its_subjects_alone() -> None:
    groups = {name.group for subject in subjects().values() for name in names(subject)}
    for kind in KINDS:
        own = {key for key, entry in PHRASES[kind].items() if isinstance(entry, dict)}
        assert own <= groups & {name.group for subject in asked_of(kind) for name in names(subject)}, kind
    rng = np.random.default_rng(0)
    asked = {
        key: {ask(rng, "enter", subjects()[key].names[0]) for _ in range(2000)} for key in ("truck", "cat")
    }
    assert any("pulls in" in text for text in asked["truck"])
    assert not any("pulls in" in text for text in asked["cat"])


def test_an_opener_may_stand_around_the_core() -> None:
    rng = np.random.default_rng(0)
    texts = [ask(rng, "falls", subjects()["person"].names[0]) for _ in range(2000)]
    assert any(text.startswith("If a person falls, ") for text in texts)
    assert not any("..." in text or text.endswith("?.") for text in texts)


def test_subjects() -> None:
    for key, subject in subjects().items():
        assert set(subject.classes) <= set(CLASSES), key
        called = [name.a for name in subject.names]
        assert len(called) == len(set(called)), key
        assert not set(called) & {name.a for name in subject.held_out}, key
    for key in ("person", "car", "truck", "dog", "cat", "bag", "bottle", "cup"):
        assert len(names(subjects()[key])) >= 15, key
    assert len(names(subjects()["unknown"])) > 100
    known = {name.a for key, subject in subjects().items() if key != "unknown" for name in names(subject)}
    assert not known & {name.a for name in names(subjects()["unknown"])}
    everywhere = {name.a for subject in subjects().values() for name in subject.names}
    assert not everywhere & {name.a for subject in subjects().values() for name in subject.held_out}


def test_paraphrases_use_words_that_training_does_not() -> None:
    rng = np.random.default_rng(0)
    known = {fill(text, name).rstrip(".") for text in phrasings("enter") for name in subjects()["dog"].names}
    dog = subjects()["dog"]
    usual = [ask(rng, "enter", dog.draw(rng, False)) for _ in range(300)]
    plain = {text[0].lower() + text[1:] for text in known}
    assert (
        sum(text[0].lower() + text[1:].rstrip(".") in plain for text in usual) > 100
    )  # the rest is dressed up
    held = [ask(rng, "enter", dog.draw(rng, True), paraphrase=True).rstrip(".") for _ in range(300)]
    assert not {text[0].lower() + text[1:] for text in held} & plain
