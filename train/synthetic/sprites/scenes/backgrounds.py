"""Procedural backgrounds: muted, varied, never the same twice; sprites and not scenery carry meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.synthetic.sprites.scenes.scene import SIZE

MARGIN = 32
"""Pixels that a camera may pan to either side."""


def _colour(rng: np.random.Generator, low: int = 60, high: int = 215) -> NDArray[np.float64]:
    """A muted colour: a grey with a tint."""
    return np.clip(rng.uniform(low, high) + rng.uniform(-35, 35, 3), 20, 245)


def _noise(rng: np.random.Generator, cells: int, width: int, height: int) -> NDArray[np.float64]:
    """Smooth noise in [-1, 1]: a small random grid, enlarged. [height, width]"""
    grid = rng.uniform(0, 255, (cells, cells)).astype(np.uint8)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64) / 127.5 - 1.0


def still(rng: np.random.Generator) -> Callable[[float, float], Image.Image]:
    """A backdrop that stands still and can be panned over by MARGIN pixels."""
    width = SIZE + 2 * MARGIN
    y, x = np.mgrid[0:SIZE, 0:width]
    a, b = _colour(rng), _colour(rng)
    kind = rng.integers(6)
    if kind == 0:  # plain
        mix = np.zeros((SIZE, width))
    elif kind == 1:  # gradient in some direction
        angle = rng.uniform(0, np.pi)
        mix = (np.cos(angle) * x / width + np.sin(angle) * y / SIZE) / 1.42
    elif kind == 2:  # wall and floor
        mix = (y > rng.uniform(0.45, 0.75) * SIZE).astype(float)
    elif kind == 3:  # stripes or boards
        period = rng.uniform(14, 50)
        mix = 0.35 * (((x if rng.random() < 0.5 else y) // period) % 2)
    elif kind == 4:  # tiles
        period = rng.uniform(18, 48)
        mix = 0.3 * ((x // period + y // period) % 2)
    else:  # clouds, leaves, marble
        mix = 0.5 + 0.5 * _noise(rng, int(rng.integers(3, 9)), width, SIZE)
    image = a + (b - a) * mix[..., None]
    image += rng.uniform(0, 14) * _noise(rng, int(rng.integers(4, 40)), width, SIZE)[..., None]
    image += rng.normal(0, rng.uniform(0, 4), image.shape)
    whole = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))

    def backdrop(t: float, pan: float) -> Image.Image:
        left = MARGIN + round(float(np.clip(pan, -MARGIN, MARGIN)))
        return whole.crop((left, 0, left + SIZE, SIZE))

    return backdrop


HORIZON = 84
"""Row of the horizon in a walking view."""


def walking(rng: np.random.Generator, speed: float) -> Callable[[float, float], Image.Image]:
    """A walker's view: sky, ground, a path with cross lines that come nearer at ``speed`` (1/s)."""
    sky, ground, path = _colour(rng, 130, 225), _colour(rng, 60, 160), _colour(rng, 90, 200)
    rows = np.arange(SIZE)
    depth = 1.0 / np.maximum((rows - HORIZON) / (SIZE - HORIZON), 1e-3)  # 1 at the feet, far at the horizon
    half_width = rng.uniform(70, 110) / depth
    x = np.arange(SIZE)[None, :]
    base = np.empty((SIZE, SIZE, 3))
    base[:HORIZON] = sky + np.linspace(-18, 10, HORIZON)[:, None, None]
    base[HORIZON:] = ground
    on_path = (np.abs(x - SIZE / 2) < half_width[:, None]) & (rows[:, None] >= HORIZON)
    base[on_path] = path
    base[HORIZON:] += rng.uniform(3, 10) * _noise(rng, 24, SIZE, SIZE)[HORIZON:, :, None]
    period, strength = rng.uniform(0.8, 1.6), rng.uniform(10, 26)

    def backdrop(t: float, pan: float) -> Image.Image:
        image = base.copy()
        lines = (((depth + speed * t) / period) % 1.0 < 0.15) & (rows >= HORIZON) & (depth < 12)
        image[lines] -= strength
        return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))

    return backdrop
