"""Drafts of a response, looked up in what a session has read and said: speculative decoding without a second
model.

Commentary repeats itself: the words after the last few of a response are often those that followed them
before, in an earlier response, in the query or in the prompt (prompt lookup decoding; Leviathan et al., arXiv
2211.17192, on why the text stays the same). The decoder verifies such a draft in one chunk, which costs much
less than one step a token. Where a text does not repeat itself, drafts are rejected: an account of the steps
that they saved and cost stops them before the loss grows.

Nothing here looks at the clock or at chance: a recorded stream is decoded in the same chunks every time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_START, _BREAK = -1, -2
"""Ids of no token: what precedes a response, and what parts other texts."""
_LONGEST_MATCH = 4
"""Most tokens that are compared."""
_REMEMBERED = 1_024
"""Most tokens of earlier responses."""
_CHUNK_COST, _TOKEN_COST = 0.3, 0.15
"""Decoding steps that a chunk with a draft costs beyond one, and for each token of the draft. Between 1.3 and
1.6 steps for two tokens and 2.3 to 3.3 for 16 were measured on CPUs (docs/performance.md)."""
_ALLOWANCE = 0.015
"""Steps per token of text that may be lost in tries."""
_FIRST_BALANCE, _LARGEST_BALANCE = 1.0, 3.0
"""Steps that may be lost at the start of a stream, and after drafts that saved many."""
_FIRST_LENGTH = 4


class Drafts:
    """Of one session. ``prompt``: the tokens it begins with."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._prompt = tuple(prompt)
        self.reset()

    def reset(self) -> None:
        """Forget every response, as for a new stream."""
        self._responses: deque[tuple[int, ...]] = deque()
        self._held = 0
        self._known: NDArray[np.int64] = np.empty(0, np.int64)
        self._balance, self._length = self._settled = _FIRST_BALANCE, _FIRST_LENGTH

    def begin(self, queries: Sequence[Sequence[int]]) -> None:
        """Get ready for a response to ``queries``, the tokens of each. What a response that failed taught is
        forgotten: the same frame may be pushed again.
        """
        self._balance, self._length = self._settled
        parts: list[int] = []
        for text in (self._prompt, *queries):
            parts += [*text, _BREAK]
        for response in self._responses:
            parts += [_START, *response, _BREAK]
        self._known = np.array(parts, dtype=np.int64)

    def propose(self, ids: Sequence[int], most: int) -> list[int]:
        """Return what may follow ``ids``, the response so far; ``most`` tokens or fewer, often none."""
        self._balance = min(self._balance + _ALLOWANCE, _LARGEST_BALANCE)
        affordable = int((self._balance - _CHUNK_COST) / _TOKEN_COST)
        length = min(most, self._length, affordable)
        return self._look_up((_START, *ids), length) if length > 0 else []

    def judge(self, drafted: int, saved: int) -> None:
        """Take in what a draft came to. ``saved``: tokens that its chunk gave beyond the one of a step."""
        self._balance += saved - (_CHUNK_COST + _TOKEN_COST * drafted)
        self._length = 2 * self._length if saved >= drafted else max(saved + 1, 1)
        self._balance = min(self._balance, _LARGEST_BALANCE)

    def settle(self) -> None:
        """Take over what was learned: the response is complete."""
        self._settled = self._balance, self._length

    def remember(self, ids: Sequence[int]) -> None:
        """Keep a response that was given."""
        self._responses.append(tuple(ids))
        self._held += len(ids)
        while self._held > _REMEMBERED:
            self._held -= len(self._responses.popleft())

    def _look_up(self, text: Sequence[int], length: int) -> list[int]:
        """What followed the longest end of ``text`` that is known, where it occurred last."""
        known = self._known
        for size in range(min(_LONGEST_MATCH, len(text)), 0, -1):
            starts = len(known) - size  # a match is followed by at least one token
            if starts < 1:
                continue
            same = np.ones(starts, dtype=bool)
            for offset, token in enumerate(text[-size:]):
                same &= known[offset : offset + starts] == token
            found = np.flatnonzero(same)
            if len(found):
                after = known[found[-1] + size : found[-1] + size + length]
                ends = np.flatnonzero(after < 0)
                draft: list[int] = (after[: ends[0]] if len(ends) else after).tolist()
                if draft:
                    return draft
        return []
