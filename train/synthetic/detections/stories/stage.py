"""What stories share: places in and outside the picture, and what actors do on their way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.synthetic.detections.camera import Camera
from train.synthetic.detections.scene import Act, Actor, Scene, make_actor

Spot = tuple[float, float]
FAR_M = 55.0
"""Where a way that leads to the horizon ends."""
STAND, SIT, LIE = (1.0, 1.0, 1.0), (1.15, 1.3, 0.72), (2.9, 1.0, 0.24)
"""Shapes of a person, as factors of width, depth and height."""


@dataclass(frozen=True)
class Layout:
    """Cameras and clutter. ``aspects``: shapes of pictures, with how often.

    ``higher``, ``wider``: factors of a family's usual limits of height and field of view. ``more``: pieces of
    furniture and parked things beyond the usual number.
    """

    aspects: tuple[tuple[float, float], ...]
    higher: tuple[float, float] | None = None
    wider: tuple[float, float] | None = None
    more: int = 0


USUAL = Layout(((16 / 9, 0.6), (4 / 3, 0.25), (1.0, 0.05), (9 / 16, 0.1)))
UNSEEN = Layout(((21 / 9, 0.4), (3 / 2, 0.4), (4 / 5, 0.2)), (1.1, 1.5), (1.02, 1.12), more=3)
"""Higher and wider cameras than any that training has, other shapes of pictures, fuller scenes."""


@dataclass
class Stage:
    """A scene in the making, with its random numbers."""

    rng: np.random.Generator
    scene: Scene
    layout: Layout = USUAL
    along: bool = False
    """Whether the way through the scene leads towards the camera and not across."""

    @classmethod
    def make(
        cls,
        rng: np.random.Generator,
        layout: Layout,
        *,
        height_m: tuple[float, float],
        look_at_m: tuple[float, float],
        duration: tuple[float, float] = (25.0, 75.0),
        field_of_view: tuple[float, float] = (45.0, 100.0),
    ) -> Stage:
        """An empty scene in front of a random camera; ranges in metres, seconds and degrees."""
        aspects, shares = zip(*layout.aspects, strict=True)
        camera = Camera.seeing(
            height_m=_within(rng, height_m, layout.higher),
            look_at_m=float(rng.uniform(*look_at_m)),
            field_of_view=_within(rng, field_of_view, layout.wider),
            aspect=float(aspects[int(rng.choice(len(aspects), p=shares))]),
        )
        scene = Scene(float(round(rng.uniform(*duration))), camera)
        scene.brightness.go(0.0, float(rng.uniform(0.25, 0.7)))
        return cls(rng, scene, layout)

    def several(self, low: int, high: int) -> int:
        """How many pieces of furniture: from ``low`` to below ``high``, more in a fuller layout."""
        return int(self.rng.integers(low, high)) + self.layout.more

    def cover(self) -> None:
        """Something covers the lens, or the light goes out, for a while or to the end."""
        start = float(self.rng.uniform(4, self.duration - 6))
        light, dark = self.scene.brightness.last[0], float(self.rng.uniform(0.0, 0.07))
        self.scene.brightness.hold(start).go(start + 0.5, dark)
        end = start + float(self.rng.uniform(4, 20))
        if end < self.duration - 3:
            self.scene.brightness.hold(end).go(end + 0.5, light)
        self.scene.acts.append(Act("covered", start + 0.5, start + 1.5))

    @property
    def duration(self) -> float:
        return self.scene.duration

    def add(self, kind: str, spot: Spot, z: float = 0.0, colour: str | None = None) -> Actor:
        """A new actor at a place on the ground."""
        name = f"{kind} {len(self.scene.actors)}"
        actor = make_actor(self.rng, kind, name, *spot, z, colour=colour)
        self.scene.actors.append(actor)
        return actor

    def spot(
        self, across: tuple[float, float] = (0.15, 0.85), down: tuple[float, float] = (0.35, 0.9)
    ) -> Spot:
        """A place on the ground that is seen in a part of the picture, given in shares of it."""
        for _ in range(50):
            u, v = float(self.rng.uniform(*across)), float(self.rng.uniform(*down))
            try:
                x, y = self.scene.camera.ground(u, v)
            except ValueError:
                continue
            if y < 60:
                return x, y
        return self.scene.camera.ground(0.5, 0.98)

    def beside(self, depth: float, side: int) -> Spot:
        """A place outside the picture: ``depth`` metres away on the left (``side`` -1) or the right (1).

        Where the way leads along the line of sight: before the picture (-1), or behind all that is seen (1).
        """
        camera = self.scene.camera
        if self.along:
            return self._below() if side < 0 else self._far()
        reach = 0.5 / camera.focal * float(np.hypot(depth, camera.height_m)) + 2.5
        return side * reach, depth

    def _below(self) -> Spot:
        """A place that the lower border of the picture cuts off."""
        x, y = self.scene.camera.ground(float(self.rng.uniform(0.2, 0.8)), 1.0)
        return x, y - 2.5

    def _far(self) -> Spot:
        """A place beyond the upper border, or too far away for anybody to be seen there."""
        try:
            x, y = self.scene.camera.ground(float(self.rng.uniform(0.25, 0.75)), -0.1)
        except ValueError:  # the horizon is in the picture
            y = np.inf
        return (x, y) if y < FAR_M else (float(self.rng.uniform(-0.15, 0.15)) * FAR_M, FAR_M)

    def side(self) -> int:
        return -1 if self.rng.random() < 0.5 else 1

    def times(self, count: int, start: float = 2.0, end: float = 4.0) -> list[float]:
        """Rising times for ``count`` things, from ``start`` to ``end`` seconds before the end."""
        return sorted(float(t) for t in self.rng.uniform(start, max(start + 1, self.duration - end), count))


def _within(
    rng: np.random.Generator, usual: tuple[float, float], beyond: tuple[float, float] | None
) -> float:
    """A number in the usual range; with ``beyond`` the upper limit times a factor in it."""
    return float(rng.uniform(*usual) if beyond is None else usual[1] * rng.uniform(*beyond))


def go(actor: Actor, start: float, to: Spot, speed: float, z: float | None = None) -> float:
    """Move straight from where the actor is, from ``start`` on at ``speed`` m/s; returns when it arrives."""
    start = max(start, actor.place.end)
    x, y, now_z = actor.place.hold(start).last
    end = start + max(0.3, float(np.hypot(to[0] - x, to[1] - y)) / speed)
    actor.place.go(end, *to, now_z if z is None else z)
    return end


def where(actor: Actor) -> Spot:
    """The place on the ground where its track ends."""
    x, y, *_ = actor.place.last
    return x, y


def carried(stage: Stage, actor: Actor, start: float, to: Spot) -> None:
    """The actor walks to a place with a thing, which is seen beside or before them."""
    kind = str(stage.rng.choice(["suitcase", "backpack", "handbag", "umbrella"]))
    x, y = where(actor)
    height = {"suitcase": 0.0, "umbrella": 1.3}.get(kind, 0.6)
    thing = stage.add(kind, (x + 0.35, y - 0.15), height)
    end = go(actor, start, to, float(stage.rng.uniform(0.8, 1.5)))
    thing.place.hold(start).go(end, to[0] + 0.35, to[1] - 0.15, height)
    act(thing, "is carried past", start, end, actor.name)


def act(actor: Actor, kind: str, start: float, end: float, other: str = "") -> None:
    actor.acts.append(Act(kind, start, end, other))


def pose(actor: Actor, start: float, shape: tuple[float, float, float], takes: float) -> float:
    """Change to a shape; returns when it is reached."""
    start = max(start, actor.shape.end)
    actor.shape.hold(start).go(start + takes, *shape)
    return start + takes


def hide_far_away(scene: Scene) -> None:
    """Take those out of a scene who wait at the far end of a way, or have arrived there: behind a corner."""
    for actor in scene.actors:
        if actor.there.varies or not actor.place.varies:
            continue
        starts, ends = actor.place.first_move, actor.place.end
        if actor.place.at(np.zeros(1))[0, 1] >= FAR_M - 1:
            actor.there.go(0.0, 0.0).jump(starts, 1.0)
        if actor.place.last[1] >= FAR_M - 1 and ends < scene.duration:
            actor.there.jump(max(ends, actor.there.end), 0.0)
