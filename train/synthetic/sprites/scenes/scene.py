"""A scene: a background, actors with keyframed tracks, a camera; it can be rendered at any time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
"""Width and height of a frame in pixels."""

_ASSETS = Path(__file__).with_name("assets")


@lru_cache(maxsize=1)
def _sheet() -> tuple[Image.Image, int, int, dict[str, int]]:
    index = json.loads((_ASSETS / "sprites.json").read_text(encoding="utf-8"))
    sheet = Image.open(_ASSETS / "sprites.png").convert("RGBA")
    return sheet, index["cell"], index["columns"], {name: i for i, name in enumerate(index["names"])}


@lru_cache(maxsize=4096)
def sprite(key: str, size: int, angle: int) -> Image.Image:
    """The sprite ``key`` as RGBA, ``size`` pixels wide, turned by ``angle`` degrees. Raises KeyError."""
    sheet, cell, columns, index = _sheet()
    i = index[key]
    box = (i % columns * cell, i // columns * cell, (i % columns + 1) * cell, (i // columns + 1) * cell)
    image = sheet.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return image.rotate(angle, Image.Resampling.BILINEAR, expand=True) if angle else image


class Track:
    """A number that changes over time: keyframes, linear in between, constant outside."""

    def __init__(self, value: float) -> None:
        self._times = [0.0]
        self._values = [float(value)]

    def at(self, t: float) -> float:
        return float(np.interp(t, self._times, self._values))

    def glide(self, start: float, end: float, value: float) -> None:
        """Stay as it is until ``start``, then change linearly and reach ``value`` at ``end``."""
        if start < self._times[-1] or end < start:
            raise ValueError(f"keyframes must come in order: {start}..{end} after {self._times[-1]}")
        self._times += [start, end]
        self._values += [self._values[-1], float(value)]

    def reach(self, t: float, value: float) -> None:
        """Change linearly from the last keyframe on and reach ``value`` at ``t``."""
        self.glide(self._times[-1], t, value)

    def jump_to(self, t: float, value: float) -> None:
        """Change at once at time ``t``."""
        self.glide(t, t, value)


@dataclass
class Actor:
    """A sprite with a place (centre, pixels), a size (pixels), an angle (degrees), an opacity, over time."""

    name: str
    x: Track
    y: Track
    size: Track
    angle: Track = field(default_factory=lambda: Track(0.0))
    opacity: Track = field(default_factory=lambda: Track(1.0))
    looks: list[tuple[float, str]] = field(default_factory=list)
    """(time, sprite key) from when on it looks so; the name itself when empty."""
    bob: float = 0.0
    """Phase of the idle bobbing, so that nothing but the named events sets actors apart from a still."""

    @classmethod
    def make(
        cls, name: str, x: float, y: float, size: float, look: str | None = None, bob: float = 0.0
    ) -> Actor:
        return cls(name, Track(x), Track(y), Track(size), looks=[(0.0, look)] if look else [], bob=bob)

    def look(self, t: float) -> str:
        current = self.name
        for since, key in self.looks:
            if since <= t:
                current = key
        return current

    def visible(self, t: float) -> bool:
        """At least about half of it is on the frame and it is opaque enough to be seen."""
        inside = -4 <= self.x.at(t) <= SIZE + 4 and -4 <= self.y.at(t) <= SIZE + 4
        return inside and self.opacity.at(t) > 0.5 and self.size.at(t) >= 12


@dataclass
class Scene:
    """What a clip shows. ``backdrop(t, camera_x)`` is the image behind the actors, RGB, SIZE x SIZE."""

    duration: float
    backdrop: Callable[[float, float], Image.Image]
    actors: list[Actor] = field(default_factory=list)
    camera_x: Track = field(default_factory=lambda: Track(0.0))
    brightness: float = 1.0

    def render(self, t: float) -> NDArray[np.uint8]:
        """The frame at ``t`` seconds: uint8 [224, 224, 3], RGB."""
        pan = self.camera_x.at(t)
        frame = self.backdrop(t, pan).convert("RGBA")
        for actor in self.actors:
            opacity = actor.opacity.at(t)
            size = 2 * round(actor.size.at(t) / 2)
            if opacity <= 0.02 or size < 4:
                continue
            image = sprite(actor.look(t), size, 6 * (round(actor.angle.at(t) / 6) % 60))
            if opacity < 0.98:
                image = image.copy()
                image.putalpha(image.getchannel("A").point(lambda a, o=opacity: int(a * o)))
            y = actor.y.at(t) + 1.5 * np.sin(2.1 * t + actor.bob)
            left, top = round(actor.x.at(t) - pan - image.width / 2), round(y - image.height / 2)
            if -image.width < left < SIZE and -image.height < top < SIZE:
                frame.paste(image, (left, top), image)
        pixels = np.asarray(frame.convert("RGB"))
        if self.brightness != 1.0:
            pixels = np.clip(pixels.astype(np.float32) * self.brightness, 0, 255).astype(np.uint8)
        return pixels


@dataclass(frozen=True)
class Event:
    """Something that happens: ``kind`` such as "enters", who, when (seconds), the sentence that says it."""

    kind: str
    subject: str
    start: float
    end: float
    text: str

    @property
    def doing(self) -> str:
        """What is done, without who: "moves left" of "The cat moves left."."""
        return self.text.split(" ", 2)[2].rstrip(".")
