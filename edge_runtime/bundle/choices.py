"""What a decision chooses among: the silences and the responses of a stream format, as token ids.

A choice is read from the logits of its first token. The other tokens, if it has more, are written behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str], list[int]]
Words = str | tuple[str, ...]
"""One token, or a set of texts of one or more tokens each."""


@dataclass(frozen=True)
class Choice:
    """One member of a set. ``ids``: its tokens, of which the first decides."""

    text: str
    ids: tuple[int, ...]

    @property
    def first(self) -> int:
        return self.ids[0]


def choices(words: Words, encode: Encode, forced: Sequence[int] = ()) -> tuple[Choice, ...]:
    """Ids of every member of a set, without the ``forced`` ones, which the turn ends with.

    A word given by itself and a word in angle brackets must be one single token of the vocabulary: a
    tokenizer that lacks it would spell it letter by letter. Raises ValueError.
    """
    if isinstance(words, str):
        return (Choice(words, (single(words, encode),)),)
    found = []
    for text in words:
        ids = encode(text)
        if forced and ids[: len(forced)] == list(forced):
            ids = ids[len(forced) :]
        elif text.startswith("<") and text.endswith(">"):
            ids = [single(text, encode)]
        if not ids:
            raise ValueError(f"tokenizer: {text!r} has no token that a decision could be read from")
        found.append(Choice(text, tuple(ids)))
    return tuple(found)


def single(token: str, encode: Encode) -> int:
    """Id of a text that is one token. Raises ValueError."""
    ids = encode(token)
    if len(ids) != 1:
        raise ValueError(f"tokenizer: {token} must be one token of the vocabulary, got {len(ids)} ids")
    return ids[0]


def check_distinct(members: Sequence[Choice]) -> None:
    """Raise ValueError when two choices begin with the same token: the decision could not be read."""
    seen: dict[int, str] = {}
    for member in members:
        if member.first in seen:
            raise ValueError(
                f"tokenizer: {seen[member.first]!r} and {member.text!r} begin with the same token; "
                "use a tokenizer that has them, or set protocol.forced to what they share"
            )
        seen[member.first] = member.text
