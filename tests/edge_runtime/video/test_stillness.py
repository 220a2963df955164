"""What counts as new: small objects, light, shaking; and what does not: noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edge_runtime.video.stillness import LEAST_CHANGE, Stillness, block_means

HEIGHT, WIDTH = 480, 640


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A textured background, float [H, W]."""
    rng = np.random.default_rng(1)
    coarse = rng.uniform(60, 180, (HEIGHT // 16, WIDTH // 16))
    return coarse.repeat(16, 0).repeat(16, 1) + rng.normal(0, 12, (HEIGHT, WIDTH))


def photo(scene: np.ndarray, rng: np.random.Generator, noise: float = 3.0) -> list[np.ndarray]:
    """One component of a frame as a sensor gives it."""
    return [np.clip(scene + rng.normal(0, noise, scene.shape), 0, 255).astype(np.uint8)]


@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0])
def test_sensor_noise_is_nothing_new(scene: np.ndarray, noise: float) -> None:
    rng, stillness = np.random.default_rng(2), Stillness()
    assert stillness.is_new(photo(scene, rng, noise))
    assert not any(stillness.is_new(photo(scene, rng, noise)) for _ in range(20))


@pytest.mark.parametrize("contrast", [-24, 24])
def test_an_object_of_12_pixels_is_new_wherever_it_is(scene: np.ndarray, contrast: int) -> None:
    """At each place relative to the blocks, a frame each; then that it is gone again."""
    rng = np.random.default_rng(3)
    stillness = Stillness()
    stillness.is_new(photo(scene, rng))
    for top in range(200, 208):
        for left in range(312, 320):
            there = scene.copy()
            there[top : top + 12, left : left + 12] += contrast
            assert stillness.is_new(photo(there, rng)), (top, left)
            assert stillness.is_new(photo(scene, rng)), (top, left)


def test_an_object_that_enters_slowly_is_new(scene: np.ndarray) -> None:
    """Two pixels a frame from the left edge: seen by the time that it is inside, and with each step later."""
    rng, stillness = np.random.default_rng(4), Stillness()
    stillness.is_new(photo(scene, rng))
    seen = []
    for inside in range(2, 61, 2):
        there = scene.copy()
        there[100:112, max(0, inside - 12) : inside] += 40
        seen.append(stillness.is_new(photo(there, rng)))
    assert any(seen[:6])
    assert sum(seen[6:]) >= 12  # of 24: two pixels alone may be too little, four are not
    assert all(a or b for a, b in pairwise(seen[6:]))


def test_slow_light_counts_once_it_has_added_up(scene: np.ndarray) -> None:
    rng, stillness = np.random.default_rng(5), Stillness()
    new = [stillness.is_new(photo(scene + 0.1 * step, rng, 2.0)) for step in range(100)]
    assert new[0]
    assert 1 <= sum(new[1:]) <= 4  # ten levels in all, and each new frame is compared with next


def test_a_lamp_is_new_at_once(scene: np.ndarray) -> None:
    rng, stillness = np.random.default_rng(6), Stillness()
    stillness.is_new(photo(scene, rng))
    assert stillness.is_new(photo(scene + 2 * LEAST_CHANGE, rng))


def test_a_camera_that_shakes_shows_new_frames(scene: np.ndarray) -> None:
    """By one pixel, and an object that comes meanwhile is not lost in it."""
    rng, stillness = np.random.default_rng(7), Stillness()
    stillness.is_new(photo(scene, rng))
    moved = [np.roll(scene, (step % 2, (step + 1) % 2), (0, 1)) for step in range(10)]
    assert all(stillness.is_new(photo(one, rng)) for one in moved)


def test_a_colour_alone_is_new() -> None:
    grey = np.full((HEIGHT, WIDTH), 120, np.uint8)
    colour = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    stillness = Stillness()
    assert stillness.is_new([grey, colour, colour])
    other = colour.copy()
    other[50:56, 50:56] += 40
    assert not stillness.is_new([grey, colour, colour])
    assert stillness.is_new([grey, colour, other])


def test_what_is_hidden_does_not_count(scene: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    hidden = np.zeros((120, 160), bool)
    hidden[:, :80] = True
    stillness = Stillness(hidden)
    stillness.is_new(photo(scene, rng))
    left, right = scene.copy(), scene.copy()
    left[100:150, 100:150] += 60
    right[100:150, 400:450] += 60
    assert not stillness.is_new(photo(left, rng))
    assert stillness.is_new(photo(right, rng))
    everything = Stillness(np.ones((4, 4), bool))
    assert [everything.is_new(photo(scene, rng)) for _ in range(2)] == [True, False]


def test_another_size_is_new_and_so_is_what_comes_after_forgetting(scene: np.ndarray) -> None:
    rng, stillness = np.random.default_rng(9), Stillness()
    assert stillness.is_new(photo(scene, rng))
    assert stillness.is_new([np.full((72, 96), 100, np.uint8)])
    assert not stillness.is_new([np.full((72, 96), 100, np.uint8)])
    stillness.forget()
    assert stillness.is_new([np.full((72, 96), 100, np.uint8)])


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (7, 90), (72, 96), (223, 333), (480, 640), (1080, 1920), (2160, 3840)]
)
def test_means_of_blocks(size: tuple[int, int]) -> None:
    blocks = block_means(np.full(size, 77, np.uint8))
    assert blocks.min() == pytest.approx(77) == blocks.max()
    assert blocks.shape[1] <= 96
