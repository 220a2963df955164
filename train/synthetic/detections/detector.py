"""What a detector reports of a scene: scores by size and class, misses in bursts, jitter, confusion, ghosts.

The shape of the noise was read off NanoDet's output on real footage: scores of one object stay within 0.05
from frame to frame and drop where it is small, hidden, cut off or in an unusual pose; boxes of still objects
move by about a hundredth of their size; objects at the borders flicker; ghosts recur in the same place of a
scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from train.models.perception.detections import Detections, select
from train.models.perception.nanodet import CLASSES
from train.synthetic.detections.camera import Floats
from train.synthetic.detections.catalog import (
    ANIMALS,
    CUT_OFF_AS,
    FROM_ABOVE_AS,
    HALLUCINATIONS,
    KINDS,
    VEHICLES,
)
from train.synthetic.detections.scene import Scene, View, look

STEEP = 0.75
"""Tilt of a camera, in radians, from which vehicles no longer look as in most photographs."""


@dataclass(frozen=True)
class Noise:
    """How imperfect a detector is; every field is a rate or a spread that was fitted on real clips."""

    score_spread: float = 0.07
    """Between individuals of one class."""
    score_jitter: float = 0.03
    """From frame to frame."""
    class_jitter: float = 0.05
    """Of the scores of other classes than the best one, from frame to frame."""
    box_jitter: float = 0.003
    """Of the sides of a box, in shares of its size."""
    gait_jitter: float = 0.055
    """Of the left and right side of people and animals that move, whose arms and legs swing; a third of it
    above and below."""
    cut_off_confusion: float = 0.3
    """Share of objects that are something else to the detector while a border cuts off most of them."""
    from_above_confusion: float = 0.6
    """Share of vehicles that are something else to it when they are seen steeply from above."""
    miss_bursts_per_s: float = 0.006
    miss_burst_s: float = 1.3
    ghosts: float = 0.8
    """Places of a scene where something is seen that is not there, on average."""
    flashes: float = 0.012
    """Chance that something is seen in one frame alone, a frame."""
    doubles: float = 0.02
    """Chance of a second box on a large object, a frame."""
    hard_scenes: float = 0.2
    """Share of scenes (from above, in the dark, unlike what the detector was trained on) in which whole
    classes get lower scores."""


@dataclass
class _Seen:
    """Boxes and class scores of one frame, before overlaps are removed."""

    boxes: list[Floats]
    scores: list[Floats]
    colours: list[Floats]

    def add(self, box: Floats, scores: Floats, colours: Floats) -> None:
        if (box[2:] - box[:2]).min() > 0.004 and scores.max() > 0.02:
            self.boxes.append(box)
            self.scores.append(scores)
            self.colours.append(colours)


def detect(
    rng: np.random.Generator,
    scene: Scene,
    times: Floats,
    places: int,
    noise: Noise | None = None,
    view: View | None = None,
) -> Detections:
    """Detections of a scene at ``times`` (multiples of the scene's step): [T, K, ...] with K ``places``."""
    noise = noise or Noise()
    view = view or look(scene)
    frames = [int(np.argmin(np.abs(view.times - t))) for t in times]
    strength = _strength(rng, scene, view, noise)  # [T, N]
    steep = scene.camera.tilt > STEEP
    individuals = [_class_scores(rng, actor.kind.name, noise, steep=steep) for actor in scene.actors]
    ghosts = _ghosts(rng, noise, len(times))
    light = scene.brightness.at(view.times)[:, 0]
    jitter = _jitter(scene, view, noise)  # [T, N, 4]
    cut_off = [_class_scores_cut_off(rng, actor.kind.name, noise, steep=steep) for actor in scene.actors]
    seen = []
    for row, t in enumerate(frames):
        frame = _Seen([], [], [])
        for n, actor in enumerate(scene.actors):
            if strength[t, n] <= 0.1:
                continue
            box = view.boxes[t, n]
            side = np.tile(box[2:] - box[:2], 2)
            jittered = box + rng.normal(0, 1, 4) * jitter[t, n] * side
            looks = individuals[n] if view.inside[t, n] > 0.55 else cut_off[n]
            wobble = np.where(looks == 1.0, 0.012, noise.class_jitter) * (looks > 0)
            scores = looks * strength[t, n] + rng.normal(0, 1, len(CLASSES)) * wobble
            tint = 0.6 + 0.8 * light[t]
            colours = np.concatenate(actor.shades) * tint + rng.normal(0, 0.02, 6)
            frame.add(jittered.clip(0, 1), scores.clip(0, 1), colours.clip(0, 1))
            if view.pixels[t, n] > 120 and rng.random() < noise.doubles:
                part = jittered.copy()
                part[1 + 2 * int(rng.integers(2))] = rng.uniform(part[1], part[3])
                frame.add(part.clip(0, 1), (scores * rng.uniform(0.5, 0.8)).clip(0, 1), colours.clip(0, 1))
        for box, scores, colours in ghosts[row]:
            frame.add(box, scores * min(1.0, light[t] * 4), colours)
        if rng.random() < noise.flashes:
            frame.add(*_ghost(rng))
        seen.append(frame)
    return _stack(seen, places)


def _strength(rng: np.random.Generator, scene: Scene, view: View, noise: Noise) -> Floats:
    """The best class's score of every actor at every moment [T, N], 0 in a burst of misses."""
    moments, actors = view.visible.shape
    hard = rng.random() < noise.hard_scenes
    lower: dict[str, float] = {}
    strength = np.zeros((moments, actors))
    light = scene.brightness.at(view.times)[:, 0]
    for n, actor in enumerate(scene.actors):
        kind = actor.kind
        if hard and kind.name not in lower:
            lower[kind.name] = float(rng.uniform(0.0, 0.38))
        size = view.pixels[:, n] / kind.full_px
        # People on real footage: 0.39 at 20 pixels, 0.71 at 37, 0.77 at 70.
        by_size = np.clip(1 + 0.41 * np.log2(np.maximum(size, 1e-3)), 0, 1)
        unhidden = np.clip((view.visible[:, n] - 0.12) / 0.5, 0, 1)
        base = kind.score + rng.normal(0, noise.score_spread) - lower.get(kind.name, 0.0)
        pose = 1 - 0.25 * (view.shapes[:, n, 2] < 0.6)
        level = base * by_size * unhidden * pose * np.clip(light * 4, 0.2, 1)
        level += _wander(rng, moments, noise.score_jitter)
        for start in np.flatnonzero(rng.random(moments) < noise.miss_bursts_per_s / 4):
            level[start : start + 1 + int(rng.exponential(noise.miss_burst_s) * 4)] = 0
        strength[:, n] = np.clip(level, 0, 0.95)
    return strength


def _wander(rng: np.random.Generator, moments: int, spread: float) -> Floats:
    """Noise that keeps about half of its value from one second to the next [T]."""
    keep = 0.85
    steps = rng.normal(0, spread * np.sqrt(1 - keep**2), moments)
    value, values = float(rng.normal(0, spread)), np.empty(moments)
    for i in range(moments):
        value = keep * value + steps[i]
        values[i] = value
    return values


def _class_scores(rng: np.random.Generator, kind: str, noise: Noise, *, steep: bool) -> Floats:
    """Shares of an individual's score for every class [C]; the best is 1. ``steep``: seen from above."""
    scores = np.zeros(len(CLASSES))
    if steep and kind in VEHICLES and rng.random() < noise.from_above_confusion:
        scores[CLASSES.index(kind)] = rng.uniform(0.2, 0.95)
        scores[CLASSES.index(FROM_ABOVE_AS[int(rng.integers(len(FROM_ABOVE_AS)))])] = 1.0
        return scores
    scores[CLASSES.index(kind)] = 1.0
    for other, often in KINDS[kind].taken_for:
        if rng.random() < often:
            # Now and then the wrong class wins; mostly it is the second.
            scores[CLASSES.index(other)] = rng.uniform(0.55, 1.12)
    return np.asarray(scores / scores.max())


def _class_scores_cut_off(rng: np.random.Generator, kind: str, noise: Noise, *, steep: bool) -> Floats:
    """The same of an individual that a border cuts off: now and then something else comes first."""
    scores = _class_scores(rng, kind, noise, steep=steep)
    if rng.random() < noise.cut_off_confusion:
        group = kind if kind in CUT_OFF_AS else "vehicle" if kind in VEHICLES else "other"
        among = [name for name in CUT_OFF_AS[group] if name != kind]
        scores *= rng.uniform(0.3, 0.95)
        scores[CLASSES.index(among[int(rng.integers(len(among)))])] = 1.0
    return scores


def _jitter(scene: Scene, view: View, noise: Noise) -> Floats:
    """Spread of the sides of every box at every moment, in shares of its size [T, N, 4]."""
    spread = np.full((*view.visible.shape, 4), noise.box_jitter)
    for n, actor in enumerate(scene.actors):
        if actor.kind.name == "person" or actor.kind.name in ANIMALS:
            moving = np.abs(np.diff(actor.place.at(view.times)[:, :2], axis=0, prepend=np.nan)).sum(-1) > 0.02
            spread[moving, n] += noise.gait_jitter * np.array([1.0, 0.3, 1.0, 0.3])
    return spread


def _ghost(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    centre = rng.uniform(0.03, 0.97, 2)
    width, height = np.exp(rng.normal(np.log(0.07), 0.6, 2)).clip(0.015, 0.6)
    box = np.array(
        [centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2]
    )
    scores = np.zeros(len(CLASSES))
    scores[CLASSES.index(HALLUCINATIONS[int(rng.integers(len(HALLUCINATIONS)))])] = rng.uniform(0.3, 0.5)
    return box.clip(0, 1), scores, rng.uniform(0.1, 0.7, 6)


def _ghosts(rng: np.random.Generator, noise: Noise, frames: int) -> list[list[tuple[Floats, Floats, Floats]]]:
    """For every frame its ghosts: the same places throughout, flickering around the limit."""
    rows: list[list[tuple[Floats, Floats, Floats]]] = [[] for _ in range(frames)]
    for _ in range(rng.poisson(noise.ghosts)):
        box, scores, colours = _ghost(rng)
        level = 1 + _wander(rng, frames, 0.12)
        since, until = (0, frames) if rng.random() < 0.7 else np.sort(rng.integers(0, frames + 1, 2))
        for row in range(since, until):
            side = np.tile(box[2:] - box[:2], 2)
            moved = (box + rng.normal(0, noise.box_jitter, 4) * side).clip(0, 1)
            rows[row].append((moved, (scores * level[row]).clip(0, 1), colours))
    return rows


def _stack(seen: list[_Seen], places: int) -> Detections:
    most = 64
    boxes = np.zeros((len(seen), most, 4), np.float32)
    scores = np.zeros((len(seen), most, len(CLASSES)), np.float32)
    colours = np.zeros((len(seen), most, 6), np.float32)
    for row, frame in enumerate(seen):
        n = min(len(frame.boxes), most)
        if n:
            boxes[row, :n], scores[row, :n] = frame.boxes[:n], frame.scores[:n]
            colours[row, :n] = frame.colours[:n]
    # Colours travel with the boxes: as extra columns through the same selection.
    wide = torch.from_numpy(np.concatenate([scores, colours * 1e-3], axis=-1))
    kept_boxes, kept = select(torch.from_numpy(boxes), wide, places)
    return Detections(kept_boxes, kept[..., : len(CLASSES)], kept[..., len(CLASSES) :] * 1e3)
