"""Turning keys to other positions."""

import numpy as np
import pytest

from edge_runtime.kv_cache.rope import from_pairs, inverse_frequencies, rotations, to_pairs

HEAD_DIM, THETA = 8, 10000.0


def rotated(keys, positions):
    """Half-split rotation in float64, written the slow way, one pair at a time."""
    result = np.empty_like(keys, dtype=np.float64)
    half = keys.shape[-1] // 2
    for pair in range(half):
        angle = np.asarray(positions) * THETA ** (-2 * pair / keys.shape[-1])
        a, b = keys[..., pair], keys[..., pair + half]
        result[..., pair] = a * np.cos(angle) - b * np.sin(angle)
        result[..., pair + half] = b * np.cos(angle) + a * np.sin(angle)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_rotated_key_is_the_one_computed_at_its_new_position(dtype):
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((2, 3, 100, HEAD_DIM))
    old = np.arange(100) + 3000
    new = np.where(old < 3010, old + 256, old - 1700)
    keys = rotated(plain, old).astype(np.float32)
    factors = rotations(new - old, inverse_frequencies(HEAD_DIM, THETA))
    out = np.empty(keys.shape, dtype)
    from_pairs(to_pairs(keys) * factors, out)
    tolerance = 2e-6 if dtype is np.float32 else 2e-3
    np.testing.assert_allclose(out, rotated(plain, new), atol=tolerance)


def test_pairs_and_back_are_the_same_keys():
    keys = np.random.default_rng(1).standard_normal((3, 5, HEAD_DIM)).astype(np.float32)
    np.testing.assert_array_equal(from_pairs(to_pairs(keys)), keys)
