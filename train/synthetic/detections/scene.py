"""A scene over time: actors with tracks on the ground, and the boxes a camera sees of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from train.synthetic.detections.camera import Camera, Floats
from train.synthetic.detections.catalog import KINDS, Kind, draw_colour

STEP_S = 0.25
"""Time between two moments of a scene."""


class Track:
    """Numbers that change over time: keyframes, linear in between, constant outside."""

    def __init__(self, *value: float) -> None:
        self._times: list[float] = [0.0]
        self._values: list[tuple[float, ...]] = [value]

    @property
    def last(self) -> tuple[float, ...]:
        return self._values[-1]

    @property
    def end(self) -> float:
        return self._times[-1]

    @property
    def varies(self) -> bool:
        """Whether it ever has another value than at first."""
        return any(value != self._values[0] for value in self._values)

    @property
    def first_move(self) -> float:
        """When it begins to change; its end if it never does."""
        for i, value in enumerate(self._values):
            if value != self._values[0]:
                return self._times[i - 1]
        return self.end

    def hold(self, until: float) -> Track:
        """Stay as it is until ``until`` seconds."""
        return self.go(until, *self.last)

    def go(self, time: float, *value: float) -> Track:
        """Reach ``value`` at ``time``, linearly from the last keyframe; numbers that are left out stay.

        Raises ValueError when time runs backwards.
        """
        if time < self._times[-1]:
            raise ValueError(f"keyframes must come in order: {time} after {self._times[-1]}")
        self._times.append(time)
        self._values.append((*value, *self.last[len(value) :]))
        return self

    def jump(self, time: float, *value: float) -> Track:
        """Be ``value`` from ``time`` on, unchanged before."""
        return self.hold(time).go(time, *value)

    def at(self, times: Floats) -> Floats:
        """Values at ``times`` [T] -> [T, n]."""
        values = np.array(self._values)
        return np.stack(
            [np.interp(times, self._times, values[:, i]) for i in range(values.shape[1])], axis=-1
        )


@dataclass(frozen=True)
class Act:
    """Something an actor does as the story has it; :mod:`truth` says whether it could be seen. Seconds.

    ``other``: the second actor, of ``meets``, ``picks up`` and the like.
    """

    kind: str
    start: float
    end: float
    other: str = ""


@dataclass
class Actor:
    """One object. ``place``: foot on the ground, x, y, z in metres. ``shape``: factors of width, depth and
    height (a person who lies has another shape than one who stands). ``there``: 0 while it is not in the
    scene at all (inside a bag, a car or a house).
    """

    kind: Kind
    name: str
    place: Track
    size: tuple[float, float, float]
    shape: Track = field(default_factory=lambda: Track(1.0, 1.0, 1.0))
    there: Track = field(default_factory=lambda: Track(1.0))
    colour: str = ""
    shades: tuple[Floats, Floats] = (np.full(3, 0.4), np.full(3, 0.4))
    """Of the upper and the lower half."""
    acts: list[Act] = field(default_factory=list)


def make_actor(
    rng: np.random.Generator,
    kind: str,
    name: str,
    x: float,
    y: float,
    z: float = 0.0,
    colour: str | None = None,
) -> Actor:
    """An individual of ``kind`` with a size and colours of its own."""
    what = KINDS[kind]
    scale = float(np.exp(rng.normal(0, what.spread)))
    called, upper = draw_colour(rng, colour)
    lower = draw_colour(rng)[1] if kind == "person" else upper * rng.uniform(0.6, 1.0)
    width, depth, height = (side * scale for side in what.size)
    return Actor(what, name, Track(x, y, z), (width, depth, height), colour=called, shades=(upper, lower))


@dataclass
class Scene:
    """``camera_place``: where the camera is on the ground over time (x, y); it looks along y."""

    duration: float
    camera: Camera
    actors: list[Actor] = field(default_factory=list)
    camera_place: Track | None = None
    brightness: Track = field(default_factory=lambda: Track(0.5))
    """Mean brightness of the picture, 0..1; near 0 when something covers the lens."""
    acts: list[Act] = field(default_factory=list)
    """What happens to the camera itself."""

    @property
    def times(self) -> Floats:
        return np.arange(0.0, self.duration + 1e-9, STEP_S)


@dataclass(frozen=True)
class View:
    """What the camera sees of each actor at each moment.

    ``boxes`` [T, N, 4], cut at the borders, zero when nothing is in the picture. ``visible`` [T, N]: share of
    the object that is neither cut off nor hidden. ``pixels`` [T, N]: height of the box in the detector's
    input. ``depth`` [T, N] in metres.
    """

    times: Floats
    boxes: Floats
    visible: Floats
    pixels: Floats
    depth: Floats
    shapes: Floats
    inside: Floats
    """Share of each box that the borders leave [T, N]."""


def look(scene: Scene, detector_px: int = 416) -> View:
    """Project every actor at every moment and work out who hides whom."""
    times = scene.times
    base = np.stack([actor.place.at(times) for actor in scene.actors], axis=1)  # [T, N, 3]
    shapes = np.stack([actor.shape.at(times) for actor in scene.actors], axis=1)  # [T, N, 3]
    there = np.stack([actor.there.at(times)[:, 0] for actor in scene.actors], axis=1) > 0.5  # [T, N]
    size = np.array([actor.size for actor in scene.actors]) * shapes  # [T, N, 3]
    position = None if scene.camera_place is None else scene.camera_place.at(times)[:, None, :]
    whole, depth = scene.camera.boxes(base, size, position)
    cut = whole.clip(0.0, 1.0)
    in_front = depth > 0.3
    share = _area(cut) / np.maximum(_area(whole), 1e-9) * there * in_front  # [T, N]
    hidden = _hidden(cut, depth, (share > 0.02))
    boxes = cut * (share > 0.02)[..., None]
    longest = max(1.0, 1.0 / scene.camera.aspect)  # shares of the height -> pixels after letterboxing
    pixels = (boxes[..., 3] - boxes[..., 1]) * detector_px / max(scene.camera.aspect, 1.0) * min(longest, 1.0)
    return View(times, boxes, share * (1 - hidden), pixels, depth, shapes, share)


def _hidden(boxes: Floats, depth: Floats, present: NDArray[np.bool_]) -> Floats:
    """The share of each box that nearer objects cover [T, N]: the largest one, and half of the rest."""
    corner = np.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:]) - np.maximum(
        boxes[:, :, None, :2], boxes[:, None, :, :2]
    )
    shared = corner.clip(0).prod(-1)  # [T, N, N]
    nearer = (depth[:, None, :] < depth[:, :, None] - 0.05) & present[:, None, :]
    covered = (
        shared / np.maximum(_area(boxes), 1e-9)[:, :, None] * nearer * 0.75
    )  # boxes are not full of their object
    most = covered.max(-1)
    return np.asarray((most + 0.5 * (covered.sum(-1) - most)).clip(0, 1))


def _area(boxes: Floats) -> Floats:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1))
