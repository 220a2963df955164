"""How people ask and what is answered, read from the TOML files of this folder."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TYPO_RATE = 0.12
"""Share of the questions with one typing mistake."""


@dataclass(frozen=True)
class Name:
    """One way to call a subject: "a dog", "dogs", "the dog", "dog".

    ``group``: whose phrases fit it beside those of all subjects: ``vehicle``, or the subject's key.
    """

    a: str
    plural: str
    the: str
    bare: str
    group: str = ""


@dataclass(frozen=True)
class Subject:
    """What a question can be about: ``classes`` of the detector, and how people call it."""

    key: str
    classes: tuple[str, ...]
    names: tuple[Name, ...]
    held_out: tuple[Name, ...]

    @property
    def canonical(self) -> Name:
        """What answers call it."""
        return self.names[0]

    def draw(self, rng: np.random.Generator, paraphrase: bool) -> Name:
        """A name; the usual one half of the time, one that training never used for a paraphrase."""
        if paraphrase and self.held_out and rng.random() < 0.5:
            return self.held_out[int(rng.integers(len(self.held_out)))]
        if rng.random() < 0.4:
            return self.names[int(rng.integers(min(3, len(self.names))))]
        return self.names[int(rng.integers(len(self.names)))]


@functools.cache
def subjects() -> dict[str, Subject]:
    """All subjects by key."""
    return {
        key: Subject(
            key,
            tuple(entry["classes"]),
            tuple(_name(text, _group(key, entry["classes"])) for text in entry["names"]),
            tuple(_name(text, _group(key, entry["classes"])) for text in entry.get("held_out", [])),
        )
        for key, entry in _read("subjects.toml").items()
    }


def _group(key: str, classes: list[str]) -> str:
    vehicles = _read("subjects.toml")["vehicle"]["classes"]
    return "vehicle" if classes and set(classes) <= set(vehicles) else key


@functools.cache
def of_class(name: str) -> Subject:
    """The subject that is exactly this class; what answers call it."""
    for subject in subjects().values():
        if subject.classes == (name,):
            return subject
    text = f"{'an' if name[0] in 'aeiou' else 'a'} {name} | {name}s | the {name}"
    return Subject(name, (name,), (_name(text),), ())


def subjects_of(name: str) -> list[Subject]:
    """What a question about this class may have for its subject: the class itself and what is wider."""
    wider = [
        subject for subject in subjects().values() if name in subject.classes and len(subject.classes) > 1
    ]
    return [of_class(name), *wider]


def phrases() -> dict[str, Any]:
    """How people ask, by kind, with the shared ``openers`` and ``extras``; as phrases.toml has it."""
    return _read("phrases.toml")


def verbs() -> list[str]:
    """The sentences that name an event, as questions about what follows it do."""
    entries = _read("answers.toml").values()
    return [one["text"] for entry in entries for one in (entry, entry.get("vehicle", entry))]


def ask(
    rng: np.random.Generator, kind: str, name: Name | None = None, *, paraphrase: bool = False, **words: str
) -> str:
    """A question of ``kind`` (a table of phrases.toml) about ``name``.

    ``paraphrase``: in words that training does not use. ``words``: colour, event, list and zone, where the
    kind needs them.
    """
    phrases = _read("phrases.toml")
    entry = phrases[kind]
    of_group = entry.get(name.group, {}) if name is not None else {}
    whole, cores = ([*entry.get(key, []), *of_group.get(key, [])] for key in ("whole", "cores"))
    own = entry.get("own", [])
    held_out = entry["held_out"]
    openers = phrases["openers"]
    if paraphrase:
        text = _draw(rng, held_out)
        if kind == "unknown":
            text = f"{_draw(rng, openers['held_out'])} {text}."
        elif cores and not own and rng.random() < 0.4:
            text = f"{_draw(rng, openers['held_out'])} {_draw(rng, cores)}."
    elif cores and (not whole or rng.random() < len(cores) / (len(cores) + 0.6 * len(whole))):
        core = _draw(rng, cores)
        opener = _draw(rng, own or openers[_draw(rng, entry["openers"])])
        if opener.endswith("."):
            core = _upper(core)
        text = opener.replace("...", core) if "..." in opener else f"{opener} {core}"
        text += "" if text.endswith("?") else "."
    else:
        text = _draw(rng, whole)
    text = fill(text, name, **words)
    if not paraphrase:
        text = _dressed(rng, text, phrases["extras"])
    return _typo(rng, text[0].upper() + text[1:]) if rng.random() < TYPO_RATE else text[0].upper() + text[1:]


def fill(phrase: str, name: Name | None = None, **words: str) -> str:
    """A phrase with its placeholders filled in."""
    if name is not None:
        words |= {"a": name.a, "pl": name.plural, "the": name.the, "bare": name.bare}
    if "colour" in words:
        words["a_colour"] = f"{'an' if words['colour'][0] in 'aeiou' else 'a'} {words['colour']}"
    return phrase.format(**words)


def answer(kind: str, who: str, other: str = "", zone: str = "") -> str:
    """The sentence that says that an event of ``kind`` happened to something of the class ``who``.

    ``other``: class of the second one; ``zone``: "zone 1", where the event is about one.
    """
    entry = _read("answers.toml")[kind]
    if who in subjects()["vehicle"].classes and "vehicle" in entry:
        entry = entry | entry["vehicle"]
    if not who:
        return str(entry["text"])
    name = of_class(who).canonical
    words = {
        "a": name.a,
        "A": _upper(name.a),
        "the": name.the,
        "The": _upper(name.the),
        "pl": name.plural,
        "bare": name.bare,
    }
    return str(entry["text"]).format(
        **words, other=of_class(other).canonical.a if other else "something", zone=zone
    )


@functools.cache
def event_kinds() -> tuple[str, ...]:
    """Everything that an answer can say to have happened."""
    return tuple(_read("answers.toml"))


def keywords(kind: str, who: str) -> list[list[str]]:
    """Groups of which each must occur in a response that says so: the subject, the event."""
    verbs = list(_read("answers.toml")[kind]["verbs"])
    return [verbs] if kind == "covered" else [nouns(who), verbs]


def nouns(who: str) -> list[str]:
    """Words of which one occurs in a response that names something of the class ``who``."""
    called = of_class(who).names
    found = {who, *(name.bare.lower() for name in called), *(name.plural.lower() for name in called)}
    return sorted(found | ({"someone", "somebody"} if who == "person" else set()))


def _dressed(rng: np.random.Generator, text: str, extras: dict[str, list[str]]) -> str:
    """The same with words around it, as people have them now and then; or in small letters."""
    if rng.random() < 0.1:
        text = f"{_draw(rng, extras['lead'])} {text[0].upper() + text[1:]}"
    if rng.random() < 0.1:
        text = f"{text} {_draw(rng, extras['tail'])}"
    if rng.random() < 0.12:
        text = text.lower()
    return text.rstrip(".") if rng.random() < 0.15 else text


def _typo(rng: np.random.Generator, text: str) -> str:
    """One letter left out, doubled, or swapped with the next."""
    letters = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not letters:
        return text
    i = letters[int(rng.integers(len(letters)))]
    kind = int(rng.integers(3))
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def _draw(rng: np.random.Generator, among: list[str]) -> str:
    return among[int(rng.integers(len(among)))]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _name(text: str, group: str = "") -> Name:
    a, plural, the, *bare = (part.strip() for part in text.split("|"))
    first, _, rest = a.partition(" ")
    plain = rest if rest and first in ("a", "an", "any", "some", "my", "the") else a
    return Name(a, plural, the, bare[0] if bare else plain, group)


@functools.cache
def _read(file: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(file).read_text(encoding="utf-8"))
