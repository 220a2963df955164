"""Which slots of the cache hold what, and what has to move when old turns are evicted. No tensors here.

The window sees the cache as a run of slots, one per token, contiguous from 0. A slot's index is its rotary
position (but with M-RoPE, see :mod:`edge_runtime.kv_cache.mrope`). It is divided into segments: the prefix
(system prompt), queries, and turns. Prefix and queries are pinned: they stay until a query is removed. Turns
leave oldest first, whole, in blocks, and what is kept closes the gaps: distances stay within those a model
was trained on, and keeping the first tokens keeps attention stable (StreamingLLM, arXiv 2309.17453). How
memory gets there with the fewest copies: :mod:`edge_runtime.kv_cache.placement`.

Plans are made first and applied after the slots have really moved, so that a failure in between changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from edge_runtime.errors import EdgeError

Kind = Literal["prefix", "query", "head", "before", "turn"]
"""``head`` and ``before`` are parts of the turn that follows them, where questions stand inside turns. The
first turn has no head: the prefix ends with one."""


@dataclass(frozen=True)
class Segment:
    """``slots`` slots of the cache that live and die together."""

    kind: Kind
    slots: int
    name: str = ""
    """A query's id, a turn's timestep."""

    @property
    def pinned(self) -> bool:
        """Whether no eviction of turns removes it."""
        return self.kind in ("prefix", "query")


@dataclass(frozen=True)
class Move:
    """Slots ``source .. source + slots`` go to ``target ..``; ``target`` is always the lower one."""

    source: int
    target: int
    slots: int
    delta: int | None = None
    """Position delta of the keys, negative, where a slot's index is not its position
    (:mod:`edge_runtime.kv_cache.mrope`)."""

    @property
    def position_delta(self) -> int:
        """By how many positions the keys are rotated; negative."""
        return self.target - self.source if self.delta is None else self.delta


@dataclass(frozen=True)
class EvictionPlan:
    """Moves in ascending order of slots: done in this order, none overwrites what a later one still reads."""

    moves: tuple[Move, ...]
    kept: tuple[Segment, ...]
    evicted: tuple[Segment, ...]

    @property
    def slots(self) -> int:
        """Slots in use afterwards."""
        return sum(segment.slots for segment in self.kept)


class WindowFull(EdgeError):
    """The slots do not fit even with every turn evicted."""


class KVWindow:
    """Segments of one session's cache.

    ``capacity``: slots of the cache. ``max_turns``: turns kept at most, the one being appended included.
    ``evict_turns``: turns that leave at once; a block, because moving slots costs a pass over the cache.
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
    def slots(self) -> int:
        """Slots in use; also the position of the next slot."""
        return sum(segment.slots for segment in self._segments)

    @property
    def turns(self) -> int:
        return sum(segment.kind == "turn" for segment in self._segments)

    @property
    def pinned_slots(self) -> int:
        """Slots no eviction of turns can free."""
        return sum(segment.slots for segment in self._segments if segment.pinned)

    def add(self, kind: Kind, slots: int, name: str = "") -> None:
        """Append a segment. Raises WindowFull beyond the capacity, ValueError beyond the turn limit."""
        if slots < 1:
            raise ValueError(f"window: a {kind} of {slots} slots")
        self._check_capacity(slots)
        if kind == "turn" and self.turns >= self.max_turns:
            raise ValueError(f"window: already {self.turns} turns; apply plan_turn first")
        self._segments += (Segment(kind, slots, name),)

    def extend(self, slots: int) -> None:
        """Let the last segment, which must be a turn, grow by ``slots``: its decision, read a timestep
        later.
        """
        if not self._segments or self._segments[-1].kind != "turn":
            raise ValueError("window: the last segment is not a turn")
        self._check_capacity(slots)
        last = self._segments[-1]
        self._segments = (*self._segments[:-1], replace(last, slots=last.slots + slots))

    def restore(self, segments: tuple[Segment, ...]) -> None:
        """Forget what was added since ``segments`` was read. Not across an applied plan: slots moved then."""
        self._segments = segments

    def plan_turn(self, slots: int) -> EvictionPlan | None:
        """What must leave before one more turn, of ``slots`` slots with all that comes with it; None for
        nothing.

        Raises WindowFull when no eviction makes room.
        """
        if self.pinned_slots + slots > self.capacity:
            raise WindowFull(
                f"window: {slots} more slots do not fit beside {self.pinned_slots} slots of prompt and "
                f"queries in a cache of {self.capacity}; remove a query or ask with fewer words"
            )
        turns = self._turn_slots()
        evicted, slots_in_use = 0, self.slots
        while len(turns) - evicted >= self.max_turns or slots_in_use + slots > self.capacity:
            block = turns[evicted : evicted + self.evict_turns]
            evicted += len(block)
            slots_in_use -= sum(block)
        if not evicted:
            return None
        left = 0

        def keep(segment: Segment) -> bool:
            nonlocal left
            if segment.pinned:
                return True
            # The first turn that stays gives up its head: it follows the one in the prefix.
            stays = left > evicted or (left == evicted and segment.kind != "head")
            left += segment.kind == "turn"
            return stays

        return self._plan(keep)

    def _turn_slots(self) -> list[int]:
        """Slots of every turn, its head included."""
        turns, slots = [], 0
        for segment in self._segments:
            slots += 0 if segment.pinned else segment.slots
            if segment.kind == "turn":
                turns.append(slots)
                slots = 0
        return turns

    def plan_remove(self, query: str) -> EvictionPlan:
        """What moves when the query named ``query`` leaves. Raises KeyError when it is not in the cache."""
        if not any(segment.kind == "query" and segment.name == query for segment in self._segments):
            raise KeyError(query)
        return self._plan(lambda segment: not (segment.kind == "query" and segment.name == query))

    def apply(self, plan: EvictionPlan) -> None:
        """Take over a plan whose slots have moved."""
        self._segments = plan.kept

    def _check_capacity(self, slots: int) -> None:
        if self.slots + slots > self.capacity:
            raise WindowFull(f"window: {self.slots} + {slots} slots do not fit in a cache of {self.capacity}")

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
                    if last and last.source + last.slots == source:  # neighbours move as one range
                        moves[-1] = Move(last.source, last.target, last.slots + segment.slots)
                    else:
                        moves.append(Move(source, target, segment.slots))
                target += segment.slots
            else:
                evicted.append(segment)
            source += segment.slots
        return EvictionPlan(tuple(moves), tuple(kept), tuple(evicted))
