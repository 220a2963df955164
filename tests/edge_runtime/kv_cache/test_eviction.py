"""Evictions of a cache in memory, against keys computed at their positions."""

import numpy as np
import pytest

from edge_runtime.kv_cache.eviction import CacheSlots
from edge_runtime.kv_cache.host_store import HostStore
from edge_runtime.kv_cache.rope import from_pairs, inverse_frequencies, rotations, to_pairs
from edge_runtime.kv_cache.window import KVWindow

LAYERS, HEADS, CAPACITY, HEAD_DIM, THETA = 2, 3, 700, 8, 10000.0
FREQUENCIES = inverse_frequencies(HEAD_DIM, THETA)
SCALE = 0.05
TOLERANCE = {"float32": 5e-6, "float16": 6e-3, "int8": 1.45 * SCALE}
"""Of a key that was rounded twice, when it was written and when it turned: in int8 half a step each time, and
a turn lets the errors of two dimensions meet (times the root of 2)."""


class Stream:
    """A cache whose keys are known: random ones, turned to the positions at which they are written."""

    def __init__(self, dtype, positions):
        self.rng = np.random.default_rng(0)
        self.dtype = np.dtype(dtype)
        self.cache = np.zeros((LAYERS, 2, HEADS, CAPACITY, HEAD_DIM), self.dtype)
        self.scale = SCALE if dtype == "int8" else None
        scales = None if self.scale is None else np.full((LAYERS, 2, HEADS, 1, HEAD_DIM), SCALE, np.float32)
        self.slots = CacheSlots(HostStore(self.cache, scales), CAPACITY, positions, FREQUENCIES)
        self.window = KVWindow(CAPACITY, max_turns=30, evict_turns=6)
        self.plain = np.zeros((LAYERS, 2, HEADS, 0, HEAD_DIM))
        self.add("prefix", 40)

    def add(self, kind, count, name=""):
        start = self.window.slots
        base = self.slots.begin(start)
        new = self.rng.uniform(-4, 4, (LAYERS, 2, HEADS, count, HEAD_DIM))
        at = rotations(base + np.arange(start, start + count), FREQUENCIES)
        written = new.copy()
        written[:, 0] = from_pairs(to_pairs(new[:, 0].astype(np.float32)) * at)
        self.cache[:, :, :, start : start + count] = self.stored(written)
        self.plain = np.concatenate([self.plain[:, :, :, :start], new], axis=3)
        self.window.add(kind, count, name)

    def stored(self, slots):
        return slots if self.scale is None else np.clip(np.rint(slots / self.scale), -128, 127)

    def evict(self, plan):
        kept = [np.arange(plan.moves[0].target)]
        kept += [np.arange(move.source, move.source + move.slots) for move in plan.moves]
        self.plain = self.plain[:, :, :, np.concatenate(kept)]
        self.slots.evict(plan)
        self.window.apply(plan)

    def turn(self, count, name=""):
        plan = self.window.plan_turn(count)
        if plan is not None:
            self.evict(plan)
        self.add("turn", count, name)
        return plan is not None

    def check(self, tolerance, first=0):
        keys, values = self.slots.read(self.window.slots)
        at = rotations(np.arange(self.window.slots), FREQUENCIES)
        expected = from_pairs(to_pairs(self.plain[:, 0].astype(np.float32)) * at)
        np.testing.assert_allclose(keys[:, :, first:], expected[:, :, first:], atol=tolerance)
        stored = self.stored(self.plain[:, 1]).astype(self.dtype)
        np.testing.assert_array_equal(values, stored.astype(np.float32) * np.float32(self.scale or 1))


@pytest.mark.parametrize("positions", [CAPACITY, 4 * CAPACITY, 1_000_000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_keys_stay_what_they_would_be_at_their_positions(dtype, positions):
    """A query among the turns, another removed: 40 blocks, each slot turned by several different numbers."""
    stream = Stream(dtype, positions)
    blocks = 0
    for number in range(260):
        if number in (10, 90):
            stream.add("query", 9, f"q{number}")
        if number == 150:
            stream.evict(stream.window.plan_remove("q10"))
        blocks += stream.turn(int(stream.rng.integers(9, 20)), str(number))
    assert blocks >= 35
    # A slot of a cache whose angles end with its slots is turned, and rounded, up to five times.
    stream.check(TOLERANCE[dtype] * (2.5 if positions == CAPACITY else 1))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_prompt_is_as_exact_after_thousands_of_blocks(dtype):
    stream = Stream(dtype, 4 * CAPACITY)
    before = stream.slots.read(40)[0]
    blocks = sum(stream.turn(80, str(number)) for number in range(3000))
    assert blocks > 450
    np.testing.assert_allclose(stream.slots.read(40)[0], before, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("positions", [CAPACITY, 4 * CAPACITY])
def test_a_stream_that_begins_anew_after_its_prompt_finds_it_as_it_was(positions):
    stream = Stream("float32", positions)
    before = stream.cache[:, :, :, :40].copy()
    stream.add("query", 9, "q")
    for number in range(90):
        stream.turn(15, str(number))
    stream.window.restore(stream.window.segments[:1])
    assert stream.slots.begin(40) == 0
    np.testing.assert_array_equal(stream.cache[:, :, :, :40], before)
    for number in range(90):  # and the slots of the query that is gone are not mistaken for it
        stream.turn(15, str(number))
        if number == 3:
            stream.add("query", 9, "q")
    stream.check(2e-5)


def test_a_turn_s_key_is_rounded_once_where_positions_grow_on():
    """In int8: not turned, so not rounded again, until positions begin anew."""
    stream = Stream("int8", 1_000_000)
    for number in range(200):
        stream.turn(15, str(number))
    stream.check(SCALE / 2 * 1.45, first=40)
