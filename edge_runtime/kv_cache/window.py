"""Which rows of the cache hold what, and what has to move when old turns are evicted. Bookkeeping, no
tensors.

The window sees the cache as a run of rows, one per token, contiguous from 0, with a row's index as its rotary
position (but with M-RoPE, see :mod:`edge_runtime.kv_cache.mrope`). It is divided into segments: the prefix
(system
prompt), queries, and turns. Prefix and queries are pinned: they stay, wherever they lie, until a query is
removed. Turns leave oldest first, whole, in blocks, and what is kept closes the gaps: distances stay within
those a model was trained on, and keeping the first tokens is what keeps attention sane (StreamingLLM,
arXiv 2309.17453). How memory gets there with the fewest copies is :mod:`edge_runtime.kv_cache.placement`'s
concern.

Plans are made first and applied after the rows have really moved, so that a failure in between changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from edge_runtime.errors import EdgeError

Kind = Literal["prefix", "query", "turn"]


@dataclass(frozen=True)
class Segment:
    """``rows`` rows of the cache that live and die together."""

    kind: Kind
    rows: int
    name: str = ""
    """A query's id, a turn's timestep."""


@dataclass(frozen=True)
class Move:
    """Rows ``source .. source + rows`` go to ``target ..``; ``target`` is always the lower one."""

    source: int
    target: int
    rows: int
    turn: int | None = None
    """By how many positions the keys turn, negative, where a row is not a position
    (:mod:`edge_runtime.kv_cache.mrope`)."""

    @property
    def shift(self) -> int:
        """By how many positions the keys turn; negative."""
        return self.target - self.source if self.turn is None else self.turn


@dataclass(frozen=True)
class EvictionPlan:
    """Moves in ascending order of rows: done in this order, none overwrites what a later one still reads."""

    moves: tuple[Move, ...]
    kept: tuple[Segment, ...]
    evicted: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """Rows in use afterwards."""
        return sum(segment.rows for segment in self.kept)


class WindowFull(EdgeError):
    """The rows do not fit even with every turn evicted."""


class KVWindow:
    """Segments of one session's cache.

    ``capacity``: rows of the cache. ``max_turns``: turns kept at most, the one being appended included.
    ``evict_turns``: turns that leave at once; a block, because moving rows costs a pass over the cache.
    """

    def __init__(self, capacity: int, max_turns: int, evict_turns: int) -> None:
        if capacity < 1 or not 0 < evict_turns <= max_turns:
            raise ValueError(f"window: capacity {capacity}, max_turns {max_turns}, evict_turns {evict_turns}")
        self.capacity = capacity
        self.max_turns = max_turns
        self.evict_turns = evict_turns
        self._segments: tuple[Segment, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Immutable: hold on to it and :meth:`restore` it to undo what came after."""
        return self._segments

    @property
    def rows(self) -> int:
        """Rows in use; also the position of the next row."""
        return sum(segment.rows for segment in self._segments)

    @property
    def turns(self) -> int:
        return sum(segment.kind == "turn" for segment in self._segments)

    @property
    def pinned_rows(self) -> int:
        """Rows no eviction of turns can free."""
        return sum(segment.rows for segment in self._segments if segment.kind != "turn")

    def add(self, kind: Kind, rows: int, name: str = "") -> None:
        """Append a segment. Raises WindowFull beyond the capacity, ValueError beyond the turn limit."""
        if rows < 1:
            raise ValueError(f"window: a {kind} of {rows} rows")
        self._check_capacity(rows)
        if kind == "turn" and self.turns >= self.max_turns:
            raise ValueError(f"window: already {self.turns} turns; apply plan_turn first")
        self._segments += (Segment(kind, rows, name),)

    def extend(self, rows: int) -> None:
        """Let the last segment, which must be a turn, grow by ``rows``: its decision, read a timestep
        later.
        """
        if not self._segments or self._segments[-1].kind != "turn":
            raise ValueError("window: the last segment is not a turn")
        self._check_capacity(rows)
        last = self._segments[-1]
        self._segments = (*self._segments[:-1], replace(last, rows=last.rows + rows))

    def restore(self, segments: tuple[Segment, ...]) -> None:
        """Forget what was added since ``segments`` was read. Not across an applied plan: those rows moved."""
        self._segments = segments

    def plan_turn(self, rows: int) -> EvictionPlan | None:
        """What must leave before one more turn, of ``rows`` rows with all that comes with it; None for
        nothing.

        Raises WindowFull when no eviction makes room.
        """
        if self.pinned_rows + rows > self.capacity:
            raise WindowFull(
                f"window: {rows} more rows do not fit beside {self.pinned_rows} rows of prompt and queries "
                f"in a cache of {self.capacity}; remove a query or ask with fewer words"
            )
        turns = [segment for segment in self._segments if segment.kind == "turn"]
        evicted, rows_in_use = 0, self.rows
        while len(turns) - evicted >= self.max_turns or rows_in_use + rows > self.capacity:
            block = turns[evicted : evicted + self.evict_turns]
            evicted += len(block)
            rows_in_use -= sum(segment.rows for segment in block)
        if not evicted:
            return None
        leaving = iter(range(len(turns)))
        return self._plan(lambda segment: segment.kind != "turn" or next(leaving) >= evicted)

    def plan_remove(self, query: str) -> EvictionPlan:
        """What moves when the query named ``query`` leaves. Raises KeyError when it is not in the cache."""
        if not any(segment.kind == "query" and segment.name == query for segment in self._segments):
            raise KeyError(query)
        return self._plan(lambda segment: not (segment.kind == "query" and segment.name == query))

    def apply(self, plan: EvictionPlan) -> None:
        """Take over a plan whose rows have moved."""
        self._segments = plan.kept

    def _check_capacity(self, rows: int) -> None:
        if self.rows + rows > self.capacity:
            raise WindowFull(f"window: {self.rows} + {rows} rows do not fit in a cache of {self.capacity}")

    def _plan(self, keep: Callable[[Segment], bool]) -> EvictionPlan:
        moves: list[Move] = []
        kept: list[Segment] = []
        evicted: list[Segment] = []
        source = target = 0
        for segment in self._segments:
            if keep(segment):
                kept.append(segment)
                if source != target:
                    last = moves[-1] if moves else None
                    if last and last.source + last.rows == source:  # neighbours move as one range
                        moves[-1] = Move(last.source, last.target, last.rows + segment.rows)
                    else:
                        moves.append(Move(source, target, segment.rows))
                target += segment.rows
            else:
                evicted.append(segment)
            source += segment.rows
        return EvictionPlan(tuple(moves), tuple(kept), tuple(evicted))
