"""The cached incremental decoder: a chunk of tokens in, the logits after its last token out.

It does not count slots: :mod:`edge_runtime.kv_cache.window` knows which are in use. A step that is not
committed there is overwritten by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.base import DecoderCache
from edge_runtime.engine.drafts import Drafts
from edge_runtime.errors import BackendError
from edge_runtime.kv_cache.mrope import MRopePositions
from edge_runtime.kv_cache.window import EvictionPlan


@dataclass(frozen=True)
class Generated:
    """A greedily generated text."""

    ids: tuple[int, ...]
    """The text's tokens, without the given ones and without the stop token."""
    slots: int
    """Slots appended: one for each given token and for each of ``ids`` but for the last when cut short."""
    stopped: bool
    """False when ``max_tokens`` cut the text short: its last token is then not in the cache yet."""
    first_token_at: float
    """``time.perf_counter()`` when the text's first token was known."""


class CachedDecoder:
    """``embedding`` [vocab, D] float16 (memory-mapped); ``image_id``: the token that stands for a visual
    token; ``grid``: rows and columns of a frame's tokens with M-RoPE, else None; ``deepstack``: how many
    layers take in visual tokens of their own (Qwen3-VL); ``margin``: by how much the best logit after a draft
    must exceed the next one.
    """

    def __init__(
        self,
        cache: DecoderCache,
        embedding: NDArray[np.float16],
        image_id: int,
        *,
        grid: tuple[int, int] | None = None,
        deepstack: int = 0,
        margin: float = 0.0,
    ) -> None:
        self._cache = cache
        self._embedding = embedding
        self._image_id = image_id
        # Virtual memory until it is written: a chunk touches its first few slots only.
        self._inputs = np.empty((cache.capacity, embedding.shape[1]), dtype=np.float32)
        self._scratch = np.empty(embedding.shape[0], dtype=np.float32)
        self._positions = None if grid is None else MRopePositions(cache.capacity, image_id, grid)
        self._deepstack_layers = deepstack
        self._deepstack = np.empty(deepstack * self._inputs.size, dtype=np.float32)
        self._margin = margin

    @property
    def most_rows(self) -> int:
        """Most tokens that :meth:`verify` takes; 1 for a graph that gives the last logits alone."""
        return self._cache.most_rows

    def append(
        self, ids: Sequence[int], start: int, visual: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Append ``ids`` at slots ``start ..`` and return the logits after the last one, float32 [vocab].

        ``visual`` [n, D]: the n visual tokens that take the places of the image tokens in ``ids``, in
        order; with DeepStack [1 + layers, n, D], the first for the input and one for each layer. The result
        is a view that the next call overwrites. Raises ValueError when counts differ or the slots do not fit,
        BackendError when the engine fails or gives NaN.
        """
        return self._run(self._cache.step, ids, start, visual)

    def verify(self, ids: Sequence[int], start: int) -> NDArray[np.float32]:
        """As :meth:`append`, of text: the logits after each of ``ids``, float32 [S, vocab]."""
        return self._run(self._cache.verify, ids, start, None)

    def _run(
        self,
        step: Callable[..., NDArray[np.float32]],
        ids: Sequence[int],
        start: int,
        visual: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        index = np.asarray(ids, dtype=np.int64)
        inputs = self._inputs[: len(index)]
        if len(inputs) != len(index):
            raise ValueError(f"append of {len(index)} slots in a cache of {self._cache.capacity}")
        inputs[:] = self._embedding[index]
        places = index == self._image_id
        if np.count_nonzero(places) != (0 if visual is None else visual.shape[-2]):
            raise ValueError("append: as many image tokens as visual tokens are needed")
        if visual is not None:
            inputs[places] = visual if visual.ndim == 2 else visual[0]
        if self._positions is None:
            logits = step(inputs, start)
        else:
            positions = self._positions.place(index, start)
            logits = step(inputs, start, positions, self._spread_deepstack(places, visual))
        if np.isnan(logits[..., 0]).any():  # one NaN anywhere before the last layer makes all of them NaN
            raise BackendError(
                "decoder graph: the logits are NaN; the frame's tokens or the bundle are damaged"
            )
        return logits

    def _spread_deepstack(
        self, places: NDArray[np.bool_], visual: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | None:
        """What is added after each of the first layers, [layers, S, D]: zeros but at the frame's tokens."""
        if not self._deepstack_layers:
            return None
        shape = (self._deepstack_layers, len(places), self._inputs.shape[1])
        dense = self._deepstack[: int(np.prod(shape))].reshape(shape)
        dense[:] = 0.0
        if visual is not None:
            dense[:, places] = visual[1:]
        return dense

    def generate(
        self,
        first: Sequence[int] | NDArray[np.float32],
        start: int,
        *,
        stop_id: int,
        max_tokens: int,
        bias: NDArray[np.float32],
        is_blank: Callable[[Sequence[int]], bool],
        drafts: Drafts | None = None,
    ) -> Generated:
        """Append the ids ``first`` at slot ``start``, then the top-1 tokens one by one until ``stop_id``.

        ``first`` may be the logits [vocab] of the text's first token instead: nothing announces it then.
        ``bias`` [vocab] is added to the logits: -inf for tokens that must not occur in a text. The stop
        token is kept out while the text so far ``is_blank``, so that a text is never empty. ``drafts``: what
        it proposes is verified in one chunk. A choice that the rounding of a chunk could change is made
        again with a single token.
        """
        ids: list[int] = []
        blank, alone = True, False
        slot, first_token_at = start, 0.0
        rows = np.empty((0, len(bias)), dtype=np.float32)
        chunk: list[int] = []
        if isinstance(first, np.ndarray):
            rows = first[None]
        else:
            chunk = list(first)
        while True:
            draft: list[int] = []
            if chunk and drafts is not None and not alone:
                most = min(max_tokens - len(ids), self.most_rows - len(chunk) + 1) - 1
                draft = drafts.propose(ids, most)
            if draft:
                rows = self.verify([*chunk, *draft], slot)[len(chunk) - 1 :]
            elif chunk:
                rows = self.append(chunk, slot)[None]
            slot += len(chunk)
            before, alone = len(ids), False
            stopped: bool | None = None
            for number, (row, guess) in enumerate(zip_longest(rows, draft)):
                scores = np.add(row, bias, out=self._scratch)
                if blank:
                    scores[stop_id] = -np.inf
                token = int(scores.argmax())
                in_chunk = bool(draft) and (number > 0 or len(chunk) == 1)
                if in_chunk and self._is_narrow(scores, token):
                    alone = True
                    break
                if not ids:
                    first_token_at = perf_counter()
                if token == stop_id:
                    stopped = True
                    break
                ids.append(token)
                blank = blank and is_blank(ids)
                if len(ids) == max_tokens:
                    stopped = False
                    break
                if token != guess:
                    break
                slot += 1
            if draft and drafts is not None:
                drafts.judge(len(draft), len(ids) - before - (0 if stopped else 1))
            if stopped is not None:
                if drafts is not None:
                    drafts.settle()
                return Generated(tuple(ids), slot - start, stopped, first_token_at)
            if alone:  # the token whose logits are not to be trusted is appended once more
                chunk = [ids[-1] if len(ids) > before else chunk[-1]]
                slot -= 1
            else:
                chunk = [ids[-1]]

    def _is_narrow(self, scores: NDArray[np.float32], best: int) -> bool:
        """Whether the rounding of a chunk could have made another token the best. Changes ``scores``."""
        highest = scores[best]
        scores[best] = -np.inf
        return bool(highest - scores.max() < self._margin)

    def evict(self, plan: EvictionPlan) -> None:
        """Let go of what the plan evicts. The window takes the plan over afterwards."""
        if self._positions is None:
            self._cache.evict(plan)
            return
        moves, after = self._positions.rotated(plan.moves)
        self._cache.evict(replace(plan, moves=tuple(moves)))
        self._positions.take(after)

    def cached_slots(self, slots: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The first ``slots`` keys and values, [L, Hkv, slots, Dh] each; to look at, not to run."""
        return self._cache.read_slots(slots)

    def close(self) -> None:
        """Free the cache. No call may follow."""
        self._cache.close()
