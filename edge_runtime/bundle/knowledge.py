"""What a bundle knows, and whether a question lies within it. No model is needed for that.

The exporter writes the record ``knowledge`` of bundle.json. A question is outside it when it holds a word
that the training of the model never used: neither a name of something it recognises, nor a word of the kinds
of events it was asked about, nor an English function word. A slip of the keyboard in a known word is
forgiven.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge_runtime.bundle.function_words import FUNCTION_WORDS, PLACES
from edge_runtime.errors import BundleError

_WORD = re.compile(r"[^\W_]+")
_NUMBERS = {"1": "one", "2": "two", "3": "three", "4": "four"}


@dataclass(frozen=True)
class KnownClass:
    """Something the model recognises; ``synonyms``: what else people call it."""

    name: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownKind:
    """A kind of event. ``about``: classes it was trained for, none for those that have no subject.

    ``words``: those of all its phrases in training.
    """

    name: str
    examples: tuple[str, ...]
    about: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Knowledge:
    """The record ``knowledge`` of bundle.json; see docs/formats.md."""

    domain: str
    footage: str = "any"
    """``generated``: trained on generated clips alone."""
    classes: tuple[KnownClass, ...] = ()
    kinds: tuple[KnownKind, ...] = ()
    words: tuple[str, ...] = ()
    """Words around a question that say nothing about its subject."""
    outside: tuple[str, ...] = ()
    """Words that training met with silence; never taken for a misspelt known one."""
    not_examples: tuple[str, ...] = ()
    """Questions that do not work."""

    @property
    def checks(self) -> bool:
        """Whether it says enough to tell a question outside it."""
        return bool(self.classes and self.kinds)

    def unknown_words(self, question: str, also: Iterable[str] = ()) -> tuple[str, ...]:
        """The words of ``question`` that lie outside, in its order; none: the model was trained for it.

        Where every word is known but no kind of event holds them all, the words that the nearest kind lacks.
        ``also``: words that are known besides, such as names of zones.
        """
        if not self.checks:
            return ()
        more = {_stem(word) for name in also for word in _words(name)}
        known = [one | self._common | more for one in self._by_kind]
        # Of a letter alone nothing can be told: it is most often what is left of a misspelt "is" or "it".
        wanted = {word: self._meanings(word) for word in _words(question) if len(word) > 1 or word.isdigit()}
        found = [tuple(word for word, stems in wanted.items() if not stems & one) for one in known]
        return min(found, key=len)

    @cached_property
    def _common(self) -> frozenset[str]:
        return frozenset(_stem(word) for word in (*self.words, *FUNCTION_WORDS, *PLACES))

    @cached_property
    def _outside(self) -> frozenset[str]:
        return frozenset(_stem(word) for word in self.outside)

    @cached_property
    def _by_kind(self) -> list[frozenset[str]]:
        names = {
            one.name: {_stem(word) for name in (one.name, *one.synonyms) for word in _words(name)}
            for one in self.classes
        }
        return [
            frozenset({_stem(word) for word in kind.words}.union(*(names.get(key, ()) for key in kind.about)))
            for kind in self.kinds
        ]

    def _meanings(self, word: str) -> set[str]:
        """The stems that a word may have been meant as: its own, and those one slip of the keyboard away."""
        stem = _stem(word)
        if stem in self._outside or any(stem in one for one in (self._common, *self._by_kind)):
            return {stem}
        return {stem, *(_stem(one) for one in _intended(word))}


def read_knowledge(manifest: Mapping[str, Any], where: str) -> Knowledge | None:
    """The record of a manifest; None where it has none. Raises BundleError when it cannot be read."""
    data = manifest.get("knowledge")
    if data is None:
        return None
    try:
        return Knowledge(
            domain=_text(data["domain"]),
            footage=_text(data.get("footage", "any")),
            classes=tuple(
                KnownClass(_text(one["name"]), _texts(one.get("synonyms", [])))
                for one in data.get("classes", [])
            ),
            kinds=tuple(
                KnownKind(
                    _text(one["name"]),
                    _texts(one["examples"]),
                    _texts(one.get("about", [])),
                    _texts(one.get("words", [])),
                )
                for one in data.get("kinds", [])
            ),
            words=_texts(data.get("words", [])),
            outside=_texts(data.get("outside", [])),
            not_examples=_texts(data.get("not_examples", [])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{where}: key knowledge cannot be read ({error!r:.60}); export the bundle again"
        ) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"expected a list, got {values!r}")
    return tuple(_text(value) for value in values)


def _words(text: str) -> list[str]:
    return [_NUMBERS.get(word, word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    """The word without the endings of English plurals and verb forms."""
    if word.endswith("ies") and len(word) > 4:
        word = f"{word[:-3]}y"
    else:
        for ending in ("ing", "ed", "es", "s"):
            if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
                word = word[: -len(ending)]
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _intended(word: str) -> set[str]:
    """What was meant if two letters changed places, one was typed twice, or one was left out."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    doubled = {word[:i] + word[i + 1 :] for i in range(1, len(word)) if word[i] == word[i - 1]}
    missing = {word[:i] + letter + word[i:] for i in range(len(word) + 1) for letter in letters}
    return swapped | doubled | missing
