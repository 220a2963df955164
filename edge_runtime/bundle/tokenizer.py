"""Text to token ids and back, with the `tokenizers` library over a bundle's ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import BundleError


def is_unicode(text: str) -> bool:
    """False for lone surrogates, which Python makes of bytes on a command line that are not UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


class Tokenizer:
    """Raises BundleError when the file is not a tokenizer."""

    def __init__(self, path: Path) -> None:
        import tokenizers  # here: importing the package must stay quick

        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path}: not a tokenizer ({error}); export the bundle again") from error
        added = self._tokenizer.get_added_tokens_decoder()
        self.added_ids = frozenset(added)
        self.special_ids = frozenset(index for index, token in added.items() if token.special)

    @property
    def vocab_size(self) -> int:
        """Tokens known, special ones included; a model's rows may be more (padding)."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; special tokens written in it become their ids, none are added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` without special tokens and without blanks at either end."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
