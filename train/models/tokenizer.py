"""A small byte-level BPE vocabulary for decoders trained from scratch.

Interval labels are the most frequent text of a stream, so numbers get a fixed, predictable cost: digits are
split from the left into groups of one to three, every integer 0..999 is one token, and the pieces ``s-`` and
``s>`` that follow a number in a label are one token each. ``<11s-12s>`` is then five tokens, and stays so
until 999 s; above that each number takes one or two tokens more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

SPECIAL_TOKENS = (
    "<|pad|>",
    "<|system|>",
    "<|query|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|image|>",
    "</Silence>",
    "</Response>",
)
PAD = "<|pad|>"

# The pieces text is cut into before merging; no token ever crosses a cut. GPT-2's cut, but for numbers.
_PIECES = r"(?<=\d)s[->]|\d{1,3}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+|\p{N}"
_LABEL_PIECES = (("s", "-"), ("s", ">"))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE over ``texts`` with at most ``vocab_size`` tokens, special tokens and integers included.

    Fewer tokens come out when ``texts`` hold too few different words. The same texts give the same ids.
    Raises ValueError when ``vocab_size`` has no room for bytes, integers and special tokens.
    """
    integers = [str(n) for n in range(10, 1000)]  # 0..9 are bytes already
    fixed = len(SPECIAL_TOKENS) + len(integers) + len(_LABEL_PIECES)
    if vocab_size < fixed + 256:
        raise ValueError(f"tokenizer: vocab_size must be at least {fixed + 256}, got {vocab_size}")

    words = Tokenizer(BPE())
    words.pre_tokenizer = _pre_tokenizer()
    trainer = BpeTrainer(
        vocab_size=vocab_size - fixed, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    # Without its digits a text can't teach merges of numbers: those are written below, all of them.
    words.train_from_iterator((re.sub(r"\d+", " ", text) for text in texts), trainer)
    model = json.loads(words.to_str())["model"]

    vocab = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    for token in sorted(model["vocab"], key=model["vocab"].__getitem__):
        vocab.setdefault(token, len(vocab))
    merges = [tuple(pair) for pair in model["merges"]]
    for pair in (*_LABEL_PIECES, *_integer_merges()):
        vocab.setdefault("".join(pair), len(vocab))
        merges.append(pair)
    return _assemble(vocab, merges)


def _integer_merges() -> list[tuple[str, str]]:
    """Merges that join every integer 10..999 whichever of its neighbouring digits are joined first."""
    merges = [(text[0], text[1]) for text in map(str, range(10, 100))]
    for text in map(str, range(100, 1000)):
        merges.append((text[:2], text[2]))
        if text[1] != "0":  # "05" is no token, so no merge can begin with it
            merges.append((text[0], text[1:]))
    return merges


def _pre_tokenizer() -> Sequence:
    return Sequence([Split(Regex(_PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _assemble(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return tokenizer
