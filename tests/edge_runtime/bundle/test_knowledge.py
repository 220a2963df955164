"""Which questions lie outside what a bundle knows."""

from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.bundle.knowledge import Knowledge, read_knowledge
from edge_runtime.errors import BundleError

RECORD: dict[str, Any] = {
    "domain": "People and dogs.",
    "classes": [
        {"name": "person", "synonyms": ["someone", "lady", "kids"]},
        {"name": "dog", "synonyms": ["puppy"]},
    ],
    "kinds": [
        {
            "name": "enter",
            "examples": ["Tell me when someone comes in."],
            "about": ["person", "dog"],
            "words": ["comes", "shows", "arrives"],
        },
        {
            "name": "falls",
            "examples": ["Tell me if someone falls."],
            "about": ["person"],
            "words": ["falls", "fell", "two"],
        },
    ],
    "words": ["moment", "shout"],
    "outside": ["snow", "cook"],
}


@pytest.fixture
def knowledge() -> Knowledge:
    found = read_knowledge({"knowledge": RECORD}, "bundle.json")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "question",
    [
        "Tell me when someone comes in.",
        "shout the moment a puppy is coming!",
        "Did 2 ladies fall in the kitchen?",
        "Let me know when kids arrive at the front door",
        "Tell me when soemone comes in.",  # two letters have changed places
        "Tel me when someone commes in",
        "Tell me wen someone cmes in",
    ],
)
def test_known_questions(knowledge: Knowledge, question: str) -> None:
    assert knowledge.unknown_words(question) == ()


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Tell me when the pizza arrives.", ("pizza",)),
        ("when the washing machine beeps", ("washing", "machine", "beeps")),
        ("Tell me if it starts to snow.", ("snow",)),  # one letter from "show"
        ("Tell me when the dog falls.", ("falls",)),  # only people fall
        ("Tell me when 7 people come", ("7", "people")),
        ("Дверь открыта?", ("дверь", "открыта")),
    ],
)
def test_questions_outside_name_their_words(
    knowledge: Knowledge, question: str, words: tuple[str, ...]
) -> None:
    assert knowledge.unknown_words(question) == words


def test_names_of_zones_are_known_where_they_are_given(knowledge: Knowledge) -> None:
    question = "Tell me when someone comes onto the helipad."
    assert knowledge.unknown_words(question) == ("helipad",)
    assert knowledge.unknown_words(question, also=["Helipad north"]) == ()


def test_without_classes_or_kinds_nothing_is_outside() -> None:
    for record in ({"domain": "Cartoons."}, {**RECORD, "kinds": []}, {**RECORD, "classes": []}):
        found = read_knowledge({"knowledge": record}, "bundle.json")
        assert found is not None and found.unknown_words("Is the soup hot?") == ()


def test_a_manifest_without_knowledge_and_a_broken_one() -> None:
    assert read_knowledge({}, "bundle.json") is None
    for broken in ([], {}, {"domain": 3}, {**RECORD, "kinds": [{"name": "enter"}]}, {**RECORD, "words": "a"}):
        with pytest.raises(BundleError, match=r"key knowledge cannot be read.*export the bundle again"):
            read_knowledge({"knowledge": broken}, "bundle.json")
