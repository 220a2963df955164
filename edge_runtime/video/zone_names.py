"""Zones' names in texts: a model knows "zone 1" to "zone 4", people say "the lawn".

In a question a zone's name becomes "zone N", N its place in the configuration. It is found in any case, as
whole words: "lawn" is in neither "lawns" nor "lawnmower" nor "front-lawn". A "the", "my", "our" or "your" in
front of it goes as well. Where one name contains another, the longer one is found. In a response "zone N"
becomes the name, with "the" before it if the name begins with a small letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLE = re.compile(r"(?:the|my|our|your)\s+", re.IGNORECASE)
_NUMBERED = re.compile(r"(?<![\w-])(?:the\s+)?zone ([1-9])(?![\w-])", re.IGNORECASE)


def plain_name(name: str) -> str:
    """A name as it is compared with others: without an article, in small letters."""
    return " ".join(_ARTICLE.sub("", name.strip(), count=1).casefold().split())


class ZoneNames:
    """``names``: of zone 1, zone 2 and so on."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._numbers = {plain_name(name): number for number, name in enumerate(names, start=1)}
        longest_first = sorted(self._numbers, key=len, reverse=True)
        words = "|".join(r"\s+".join(map(re.escape, name.split())) for name in longest_first)
        self._named = re.compile(rf"(?<![\w-])(?:{_ARTICLE.pattern})?({words})(?![\w-])", re.IGNORECASE)

    def for_model(self, text: str) -> str:
        """A question with zones as the model knows them."""
        if not self.names:
            return text
        return self._named.sub(lambda found: f"zone {self._numbers[plain_name(found[1])]}", text)

    def for_people(self, text: str) -> str:
        """A response with zones as people call them; a number that no zone has stays."""
        return _NUMBERED.sub(self._called, text)

    def _called(self, found: re.Match[str]) -> str:
        number = int(found[1])
        if number > len(self.names):
            return found[0]
        name = self.names[number - 1]
        called = f"the {name}" if name[0].islower() and not _ARTICLE.match(name) else name
        return called[0].upper() + called[1:] if found.start() == 0 else called
