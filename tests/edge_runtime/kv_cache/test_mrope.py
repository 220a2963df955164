"""M-RoPE positions of slots: told anew from the tokens that are there, after whatever happened before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.kv_cache.mrope import MRopePositions
from edge_runtime.kv_cache.window import KVWindow, Move

IMAGE = 7
CAPACITY = 400


def from_scratch(ids, grid):
    """The rule, token by token."""
    positions, at, rank = [], 0, 0
    for token in ids:
        if token != IMAGE:
            positions.append([at] * 3)
            at += 1
            continue
        positions.append([at, at + rank // grid[1], at + rank % grid[1]])
        rank += 1
        if rank == grid[0] * grid[1]:
            at, rank = at + max(grid), 0
    return np.array(positions).T


def turn(rng, grid):
    before, after = rng.integers(1, 6, 2)
    return [1] * int(before) + [IMAGE] * (grid[0] * grid[1]) + [2] * int(after)


@settings(max_examples=40, deadline=None)
@given(grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), seed=st.integers(0, 1000))
def test_rows_keep_the_positions_of_their_tokens_over_evictions(grid, seed):
    rng = np.random.default_rng(seed)
    slots = MRopePositions(CAPACITY, IMAGE, grid)
    window = KVWindow(CAPACITY, max_turns=6, evict_turns=2)
    ids: list[int] = []
    held = np.zeros((3, 0), dtype=np.int64)  # what each slot's key is turned by

    def append(kind, chunk, name=""):
        nonlocal ids, held
        held = np.concatenate([held, slots.place(np.array(chunk), len(ids))], axis=1)
        ids += chunk
        window.add(kind, len(chunk), name)

    append("prefix", [1] * 5)
    for step in range(24):
        if step in (3, 9):
            append("query", [3] * int(rng.integers(1, 7)), f"q{step}")
        chunk = turn(rng, grid)
        plan = window.plan_remove("q3") if step == 15 else window.plan_turn(len(chunk))
        if plan is not None:
            moves, after = slots.rotated(plan.moves)
            kept = list(range(moves[0].target if moves else plan.slots))
            parts = [held[:, kept]]
            for move in moves:
                moved = slice(move.source, move.source + move.slots)
                parts.append(held[:, moved] + move.position_delta)
                kept += range(move.source, move.source + move.slots)
            slots.take(after)
            window.apply(plan)
            held, ids = np.concatenate(parts, axis=1), [ids[slot] for slot in kept]
        append("turn", chunk, str(step))
        np.testing.assert_array_equal(held, from_scratch(ids, grid))


def test_rows_that_were_never_committed_are_placed_again():
    slots = MRopePositions(CAPACITY, IMAGE, (2, 3))
    slots.place(np.array([1, 1, 1]), 0)
    frame = np.array([1, *[IMAGE] * 6, 1])
    first = slots.place(frame, 3)
    slots.place(np.array([1] * 20), 11)
    np.testing.assert_array_equal(slots.place(frame, 3), first)
    np.testing.assert_array_equal(first[:, -1], [7, 7, 7])  # 3 of text, 1, and the picture's longer side
    np.testing.assert_array_equal(slots.place(np.array([1]), 11), [[8]] * 3)


def test_a_plan_that_is_not_taken_changes_nothing():
    slots = MRopePositions(CAPACITY, IMAGE, (1, 4))
    slots.place(np.array([1, *[IMAGE] * 4, 1, 1]), 0)
    moves, _ = slots.rotated([Move(6, 1, 1)])
    assert moves[0].position_delta == -5
    np.testing.assert_array_equal(slots.place(np.array([1]), 7), [[7]] * 3)


def test_part_of_a_frame_is_refused():
    with pytest.raises(ValueError, match="a frame is 6 tokens"):
        MRopePositions(CAPACITY, IMAGE, (2, 3)).place(np.array([1, IMAGE]), 0)
