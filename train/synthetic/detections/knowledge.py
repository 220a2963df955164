"""What a model knows that was trained on this data, read from the data's language, classes and events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from train.synthetic.detections.catalog import COLOURS, KINDS, MOBILE, VEHICLES
from train.synthetic.detections.facts import COUNT_KINDS, EVENT_KINDS, THINGS
from train.synthetic.detections.language import Name, fill, of_class, phrases, subjects, subjects_of, verbs
from train.synthetic.detections.zone_questions import ZONE_KINDS

DOMAIN = (
    "People, vehicles, animals and things on tables, as an object detector sees them: who or what comes, "
    "goes, stops, falls, is put down or taken, and how many there are."
)
_PLACEHOLDER = re.compile(r"\{[a-z_]*\}")
_WORD = re.compile(r"[^\W_]+")


def describe_knowledge() -> dict[str, Any]:
    """The record that an exported bundle carries; see docs/formats.md."""
    classes = sorted({*MOBILE, *THINGS}, key=[*MOBILE, *THINGS].index)
    kinds = [_kind(name, about) for name, about in _about().items()]
    known = {word for kind in kinds for word in kind["words"]}
    known |= {
        word for name in classes for text in (name, *_synonyms(name)) for word in _WORD.findall(text.lower())
    }
    common = _common()
    unknown = phrases()["unknown"]
    never = [name.bare for name in (*subjects()["unknown"].names, *subjects()["unknown"].held_out)]
    outside = _words([*unknown["cores"], *unknown["whole"], *unknown["held_out"], *never])
    return {
        "domain": DOMAIN,
        "classes": [{"name": name, "synonyms": _synonyms(name)} for name in classes],
        "kinds": kinds,
        "words": sorted(common),
        "outside": sorted(set(outside) - known - common),
        "not_examples": [
            "Tell me when it starts to rain.",
            "Let me know when the washing machine is done.",
            "Read me the number plate.",
            "Tell me when my boss comes in.",
        ],
    }


def write_knowledge(path: Path) -> None:
    """Write the record as JSON."""
    path.write_text(json.dumps(describe_knowledge(), indent=1) + "\n", encoding="utf-8")


def _about() -> dict[str, tuple[str, ...]]:
    """Each kind of question with the classes it is asked of."""
    everything = (*MOBILE, *THINGS)
    return {
        **{kind.name: kind.of for kind in (*EVENT_KINDS, *ZONE_KINDS)},
        **dict.fromkeys(COUNT_KINDS, everything),
        "enter_colour": VEHICLES,
        "enter_colour_person": ("person",),
        "narrate": everything,
        "narrate_subject": everything,
        "next": everything,
        "when_stay": everything,
        "when_first": everything,
        "when_missing": THINGS,
        "plan": THINGS,
        "in_way": (),
        "covered": (),
    }


def _kind(name: str, about: tuple[str, ...]) -> dict[str, Any]:
    entry = phrases()[name]
    tables = [entry, *(part for part in entry.values() if isinstance(part, dict))]
    texts = [
        text for part in tables for key in ("own", "cores", "whole", "held_out") for text in part.get(key, [])
    ]
    extra = [*COLOURS] if "colour" in name else [*verbs(), *KINDS] if name == "next" else []
    extra += ["zone one two three four"] if name.startswith("zone_") else []
    return {
        "name": name,
        "examples": _examples(name, entry, about),
        "about": list(about),
        "words": sorted({*_words(texts), *_words(extra)} - _common()),
    }


def _examples(kind: str, entry: dict[str, Any], about: tuple[str, ...]) -> list[str]:
    names: list[Name | None] = [None, None]
    if about:
        second = next((name for name in ("car", "cup", "suitcase", "dog") if name in about), about[0])
        names = [of_class(about[0]).canonical, of_class(second).canonical]
        if about[0] == "person":
            names[0] = next(name for name in subjects()["person"].names if name.a == "someone")
    words = {"colour": "red", "event": "someone comes in", "list": "plate, fork, knife", "zone": "zone 1"}
    opener = entry.get("own", ["Tell me when"])[0]
    asked = [
        f"{opener} {entry['cores'][0]}" if "cores" in entry else entry["whole"][0],
        entry.get("whole", entry["cores"])[0],
    ]
    made = []
    for text, name in zip(asked, names, strict=True):
        text = fill(text, name, **words)
        made.append(text if text.endswith(("?", ".")) else f"{text}.")
    return list(dict.fromkeys(text[0].upper() + text[1:] for text in made))


def _synonyms(name: str) -> list[str]:
    """Every other word for a class, wider ones such as "animal" included."""
    called: dict[str, None] = {}
    for subject in subjects_of(name):
        for one in (*subject.names, *subject.held_out):
            called |= dict.fromkeys((_without_article(one.a), one.bare, one.plural))
    return [text for text in called if text != name]


def _without_article(text: str) -> str:
    first, _, rest = text.partition(" ")
    return rest if first in ("a", "an", "any", "some", "my", "the", "another", "one") else text


def _common() -> set[str]:
    openers, extras = phrases()["openers"], phrases()["extras"]
    return set(_words([text for texts in (*openers.values(), *extras.values()) for text in texts]))


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in _WORD.findall(_PLACEHOLDER.sub(" ", text).lower())]
