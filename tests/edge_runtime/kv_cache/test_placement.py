"""Which slots an eviction copies and rotates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.kv_cache.placement import SlotPlacement
from edge_runtime.kv_cache.window import KVWindow

CAPACITY = 120


def evictions(window, placement, steps, content, positions):
    """Runs ``steps`` through both; keeps ``content`` and ``positions``, what each place in memory holds."""
    for number, (slots, query) in enumerate(steps):
        asked = [segment.name for segment in window.segments if segment.kind == "query"]
        if query and len(asked) > 2:
            carry_out(window, placement, window.plan_remove(asked[number % 3]), content, positions)
            yield
        if plan := window.plan_turn(slots + 3 * query):
            carry_out(window, placement, plan, content, positions)
            yield
        if query:
            write(window, placement, "query", 3, f"q{number}", content, positions)
        write(window, placement, "turn", slots, str(number), content, positions)


def write(window, placement, kind, slots, name, content, positions):
    start = window.slots
    placement.begin(start)
    for slot in range(slots):
        content[start + slot] = kind, name, slot
    positions[start : start + slots] = placement.base + np.arange(start, start + slots)
    window.add(kind, slots, name)


def carry_out(window, placement, plan, content, positions):
    moved = placement.plan(plan)
    assert not set(moved.sources) & set(moved.targets)
    assert len(moved.sources) <= sum(segment.slots for segment in plan.evicted)
    content[moved.targets] = content[moved.sources]
    positions[moved.targets] = positions[moved.sources]
    positions[moved.after] += moved.deltas
    kinds = [content[place][0] for place in moved.after]
    assert (moved.pinned == [kind != "turn" for kind in kinds]).all()
    placement.take(moved)
    window.apply(plan)


def check(window, placement, content, positions):
    """The window's slots are the first ones of memory, each at its own position from the base on."""
    places = placement.places(window.slots)
    assert sorted(places) == list(range(window.slots))
    expected = [(s.kind, s.name, slot) for s in window.segments for slot in range(s.slots)]
    assert [tuple(content[place]) for place in places] == expected
    np.testing.assert_array_equal(positions[places], placement.base + np.arange(window.slots))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 25), st.booleans()), min_size=10, max_size=60),
    st.sampled_from([CAPACITY, 2 * CAPACITY, 10_000]),
)
def test_memory_holds_what_the_window_says(steps, limit):
    window = KVWindow(CAPACITY, max_turns=9, evict_turns=3)
    placement = SlotPlacement(CAPACITY, limit)
    content = np.empty(CAPACITY, dtype=object)
    positions = np.full(CAPACITY, -1)
    write(window, placement, "prefix", 7, "", content, positions)
    for _ in evictions(window, placement, steps, content, positions):
        check(window, placement, content, positions)
        assert placement.base + CAPACITY <= limit
    check(window, placement, content, positions)


@pytest.mark.parametrize(("limit", "most"), [(CAPACITY, 70), (100_000, 7)])
def test_the_fewest_keys_are_rotated(limit, most):
    """With room to grow only the prompt's; without, all that lie behind the block."""
    window, placement = KVWindow(CAPACITY, 9, 3), SlotPlacement(CAPACITY, limit)
    content, positions = np.empty(CAPACITY, dtype=object), np.zeros(CAPACITY)
    write(window, placement, "prefix", 7, "", content, positions)
    rotated = []
    for number in range(50):
        if plan := window.plan_turn(10):
            rotated.append(np.count_nonzero(placement.plan(plan).deltas))
            carry_out(window, placement, plan, content, positions)
        write(window, placement, "turn", 10, str(number), content, positions)
    assert len(rotated) > 10 and max(rotated) <= most
    assert limit > CAPACITY or min(rotated) >= 50


def test_positions_begin_anew_where_the_angles_end():
    window, placement = KVWindow(CAPACITY, 9, 3), SlotPlacement(CAPACITY, 2 * CAPACITY)
    content, positions = np.empty(CAPACITY, dtype=object), np.zeros(CAPACITY)
    write(window, placement, "prefix", 7, "", content, positions)
    bases = []
    for number in range(60):
        if plan := window.plan_turn(10):
            carry_out(window, placement, plan, content, positions)
            bases.append(placement.base)
        write(window, placement, "turn", 10, str(number), content, positions)
    assert bases[:5] == [30, 60, 90, 120, 0] and bases.count(0) >= 3
