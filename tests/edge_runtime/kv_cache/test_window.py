"""Bookkeeping of cache slots, checked against a model of the cache itself: a list of slot identities."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_runtime.errors import EdgeError
from edge_runtime.kv_cache.window import KVWindow, Move, Segment, WindowFull


def window_of(*segments, capacity=1000, max_turns=4, evict_turns=2):
    window = KVWindow(capacity, max_turns, evict_turns)
    for kind, slots, *name in segments:
        window.add(kind, slots, *name)
    return window


def test_nothing_leaves_while_there_is_room():
    assert window_of(("prefix", 10), ("turn", 5)).plan_turn(5) is None


def test_the_oldest_turns_leave_in_a_block_and_pinned_segments_stay_where_they_lie():
    window = window_of(
        ("prefix", 10),
        ("turn", 5, "0"),
        ("query", 7, "q1"),
        ("turn", 6, "1"),
        ("turn", 5, "2"),
        ("turn", 5, "3"),
    )
    plan = window.plan_turn(5)
    assert [segment.name for segment in plan.evicted] == ["0", "1"]
    assert plan.moves == (Move(15, 10, 7), Move(28, 17, 10))  # each range with its own shift
    assert [move.position_delta for move in plan.moves] == [-5, -11]
    window.apply(plan)
    assert window.slots == plan.slots == 27
    assert [segment.kind for segment in window.segments] == ["prefix", "query", "turn", "turn"]


def test_more_than_one_block_leaves_when_rows_are_short():
    window = window_of(("prefix", 10), *[("turn", 20)] * 4, capacity=100)
    assert len(window.plan_turn(10).evicted) == 2
    assert len(window.plan_turn(60).evicted) == 4


def test_rows_that_can_never_fit_are_an_error_that_says_so():
    window = window_of(("prefix", 10), ("query", 50, "q1"), ("turn", 20), capacity=100)
    with pytest.raises(WindowFull, match="60 slots of prompt and queries"):
        window.plan_turn(41)
    assert issubclass(WindowFull, EdgeError)


def test_removing_a_query_closes_the_gap():
    window = window_of(("prefix", 10), ("query", 7, "q1"), ("turn", 5), ("query", 3, "q2"), ("turn", 5))
    plan = window.plan_remove("q1")
    assert plan.moves == (Move(17, 10, 13),)
    window.apply(plan)
    assert window.pinned_slots == 13
    with pytest.raises(KeyError):
        window.plan_remove("q1")


def test_a_turn_grows_by_its_decision():
    window = window_of(("prefix", 10), ("turn", 5))
    window.extend(3)
    assert window.segments[-1] == Segment("turn", 8)
    with pytest.raises(ValueError, match="not a turn"):
        window_of(("prefix", 10)).extend(1)


def test_restore_forgets_what_was_added():
    window = window_of(("prefix", 10), ("turn", 5))
    before = window.segments
    window.extend(2)
    window.add("turn", 9)
    window.restore(before)
    assert (window.slots, window.turns) == (15, 1)


@pytest.mark.parametrize(("capacity", "max_turns", "evict_turns"), [(0, 4, 2), (10, 4, 0), (10, 4, 5)])
def test_impossible_limits_are_refused(capacity, max_turns, evict_turns):
    with pytest.raises(ValueError, match="window"):
        KVWindow(capacity, max_turns, evict_turns)


def test_limits_hold_even_when_no_plan_was_asked_for():
    window = window_of(("prefix", 10), *[("turn", 5)] * 4, capacity=40)
    with pytest.raises(ValueError, match="plan_turn"):
        window.add("turn", 5)
    with pytest.raises(WindowFull):
        window.add("query", 11, "q1")
    with pytest.raises(WindowFull):
        window.extend(11)
    with pytest.raises(ValueError, match="0 slots"):
        window.add("query", 0, "q1")


class WindowMachine(RuleBasedStateMachine):
    """Any order of timesteps, queries and removals. ``cache`` holds (identity, position its key was turned
    to).
    """

    @initialize(
        prefix=st.integers(1, 12),
        capacity=st.integers(60, 200),
        max_turns=st.integers(1, 9),
        block=st.integers(1, 9),
    )
    def start(self, prefix, capacity, max_turns, block):
        self.window = KVWindow(capacity, max_turns, min(block, max_turns))
        self.cache = [None] * capacity
        self.ids = itertools.count()
        self.queries = itertools.count()
        self.expected = []  # one (kind, name, identities) per segment
        self._add("prefix", prefix)

    def _add(self, kind, slots, name=""):
        start = self.window.slots
        identities = [next(self.ids) for _ in range(slots)]
        for offset, identity in enumerate(identities):
            self.cache[start + offset] = (identity, start + offset)
        self.window.add(kind, slots, name)
        self.expected.append((kind, name, identities))

    def _apply(self, plan):
        for move in plan.moves:  # slot by slot in ascending order, as an in-place copy does
            assert move.target < move.source
            assert move.source + move.slots <= self.window.slots
            for offset in range(move.slots):
                identity, position = self.cache[move.source + offset]
                self.cache[move.target + offset] = (identity, position + move.position_delta)
        self.window.apply(plan)
        assert all(segment.kind != "prefix" for segment in plan.evicted)

    @rule(slots=st.integers(1, 25), decision=st.integers(0, 8), reserve=st.integers(0, 10))
    def timestep(self, slots, decision, reserve):
        try:
            plan = self.window.plan_turn(slots + decision + reserve)
        except WindowFull:
            assert self.window.pinned_slots + slots + decision + reserve > self.window.capacity
            return
        if plan is not None:
            turns = [entry for entry in self.expected if entry[0] == "turn"]
            assert all(segment.kind == "turn" for segment in plan.evicted)
            leaving = len(plan.evicted)
            assert leaving % self.window.evict_turns == 0 or leaving == len(turns)
            gone = turns[:leaving]
            self.expected = [entry for entry in self.expected if not any(entry is g for g in gone)]
            self._apply(plan)
        self._add("turn", slots)
        if decision:
            start = self.window.slots
            identities = [next(self.ids) for _ in range(decision)]
            for offset, identity in enumerate(identities):
                self.cache[start + offset] = (identity, start + offset)
            self.window.extend(decision)
            self.expected[-1][2].extend(identities)

    @rule(slots=st.integers(1, 15))
    def ask(self, slots):
        if self.window.slots + slots <= self.window.capacity:
            self._add("query", slots, f"q{next(self.queries)}")

    @precondition(lambda self: any(entry[0] == "query" for entry in self.expected))
    @rule(data=st.data())
    def remove(self, data):
        entry = data.draw(st.sampled_from([entry for entry in self.expected if entry[0] == "query"]))
        self._apply(self.window.plan_remove(entry[1]))
        self.expected = [other for other in self.expected if other is not entry]

    @invariant()
    def slots_are_the_kept_ones_in_order_at_their_own_positions(self):
        identities = [identity for _, _, ids in self.expected for identity in ids]
        assert self.cache[: self.window.slots] == [
            (identity, slot) for slot, identity in enumerate(identities)
        ]
        assert [(s.kind, s.name, s.slots) for s in self.window.segments] == [
            (kind, name, len(ids)) for kind, name, ids in self.expected
        ]

    @invariant()
    def limits_hold(self):
        assert self.window.slots <= self.window.capacity
        assert self.window.turns <= self.window.max_turns
        assert self.window.pinned_slots == sum(len(ids) for kind, _, ids in self.expected if kind != "turn")


TestWindowMachine = WindowMachine.TestCase


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 10), st.integers(1, 10))
def test_a_long_stream_keeps_between_window_less_block_and_window_turns(sizes, max_turns, block):
    window = KVWindow(500, max_turns, min(block, max_turns))
    window.add("prefix", 3)
    for number, slots in enumerate(sizes):
        if plan := window.plan_turn(slots):
            window.apply(plan)
        window.add("turn", slots)
        assert window.turns >= min(number + 1, window.max_turns - window.evict_turns + 1)
