"""Moving cached rows: values copied, keys turned."""

import numpy as np
import pytest

from edge_runtime.rotary import inverse_frequencies, move_rows
from edge_runtime.window import Move

HEAD_DIM, THETA = 8, 10000.0


def turned(keys, positions):
    """Half-split rotation in float64, written the slow way: pair (i, i + Dh / 2) as a complex number."""
    pairs = keys[..., : HEAD_DIM // 2] + 1j * keys[..., HEAD_DIM // 2 :]
    frequencies = THETA ** (-2 * np.arange(HEAD_DIM // 2) / HEAD_DIM)
    pairs = pairs * np.exp(1j * np.asarray(positions)[:, None] * frequencies)
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 5e-3)])
@pytest.mark.parametrize(
    "moves",
    [
        (Move(5, 2, 3),),
        (Move(300, 299, 400),),  # overlaps itself in every block
        (Move(10, 3, 500),),
        (Move(20, 10, 100), Move(150, 110, 550)),
    ],
)
def test_moved_keys_are_those_computed_at_the_new_position(moves, dtype, tolerance):
    rng = np.random.default_rng(0)
    rows = 700
    plain = rng.standard_normal((2, 1, 3, rows, HEAD_DIM))
    values = rng.standard_normal(plain.shape).astype(dtype)
    keys = turned(plain, np.arange(rows)).astype(dtype)
    expected_keys, expected_values = turned(plain, np.arange(rows)), values.copy()
    for move in moves:
        source = slice(move.source, move.source + move.rows)
        target = slice(move.target, move.target + move.rows)
        expected_keys[..., target, :] = turned(plain[..., source, :], np.arange(rows)[target])
        expected_values[..., target, :] = values[..., source, :]

    move_rows(keys, values, moves, inverse_frequencies(HEAD_DIM, THETA))

    end = moves[-1].target + moves[-1].rows
    np.testing.assert_allclose(keys[..., :end, :], expected_keys[..., :end, :], atol=tolerance)
    np.testing.assert_array_equal(values[..., :end, :], expected_values[..., :end, :])


def test_many_small_moves_add_up_to_one_large_one():
    rng = np.random.default_rng(1)
    plain = rng.standard_normal((1, 1, 1, 200, HEAD_DIM))
    keys = turned(plain, np.arange(200)).astype(np.float32)
    values = np.zeros_like(keys)
    for step in range(100):
        move_rows(keys, values, [Move(100 - step, 99 - step, 100)], inverse_frequencies(HEAD_DIM, THETA))
    np.testing.assert_allclose(keys[..., :100, :], turned(plain[..., 100:, :], np.arange(100)), atol=1e-4)
