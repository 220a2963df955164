"""Cameras that move: on a person who walks, behind a windscreen. What stands ahead comes nearer."""

from __future__ import annotations

import numpy as np

from train.synthetic.detections.scene import Actor, Scene, Track
from train.synthetic.detections.stories.stage import Layout, Stage, act, go

WARN_M = 1.6
"""A walker is about to bump into what is nearer than this and ahead."""


def walk(rng: np.random.Generator, layout: Layout) -> Scene:
    """A camera on the chest or head of somebody who walks."""
    stage = Stage.make(rng, layout, height_m=(1.3, 1.75), look_at_m=(5.0, 14.0), duration=(25.0, 60.0))
    speed = float(rng.uniform(0.8, 1.4))
    stage.scene.camera_place = Track(0.0, 0.0).go(stage.duration + 1, 0.0, speed * (stage.duration + 1))
    for y in np.arange(4.0, speed * stage.duration + 15, rng.uniform(3.0, 9.0)):
        what = str(
            rng.choice(["person", "bench", "potted plant", "car", "bicycle", "chair", "motorcycle", "dog"])
        )
        ahead = rng.random() < 0.3
        aside = float(rng.uniform(-0.3, 0.3)) if ahead else float(rng.uniform(1.3, 4.0)) * stage.side()
        actor = stage.add(what, (aside, float(y)))
        if what in ("person", "dog") and rng.random() < 0.4:  # comes towards the camera
            pace = float(rng.uniform(0.6, 1.2))
            actor.place = Track(aside, float(y), 0.0).go(
                stage.duration + 1, aside, float(y) - pace * stage.duration, 0.0
            )
        if ahead:
            _hazard(stage, actor)
    return stage.scene


def _hazard(stage: Stage, actor: Actor) -> None:
    """Mark when the walker gets to it; the walker steps aside then, so it passes out of the picture."""
    times = stage.scene.times
    assert stage.scene.camera_place is not None
    gap = actor.place.at(times)[:, 1] - stage.scene.camera_place.at(times)[:, 1]
    near = np.flatnonzero(gap < WARN_M)
    if len(near) and near[0] > 0:
        onset = float(times[near[0]])
        act(actor, "is in the way", onset, onset + 1.0)
        x, y, z = actor.place.at(np.array([onset]))[0]
        actor.place = _until(actor.place, onset, stage.duration)
        actor.place.go(onset + 1.0, x + 1.5 * (1 if x >= 0 else -1), y, z)


def _until(track: Track, time: float, end: float) -> Track:
    """The track up to ``time``."""
    moments = np.arange(0.0, time + 1e-9, 0.5)
    values = track.at(np.append(moments, time))
    cut = Track(*values[0])
    for moment, value in zip(np.append(moments, time)[1:], values[1:], strict=True):
        cut.go(float(moment), *value)
    return cut


def drive(rng: np.random.Generator, layout: Layout) -> Scene:
    """A camera behind a windscreen on a road with lanes to both sides."""
    stage = Stage.make(
        rng,
        layout,
        height_m=(1.2, 1.5),
        look_at_m=(14.0, 30.0),
        duration=(25.0, 50.0),
        field_of_view=(50.0, 80.0),
    )
    for start in stage.times(int(rng.integers(1, 6)), start=1.0):
        lane = 3.5 * stage.side()
        kind = str(rng.choice(["car", "car", "car", "truck", "bus", "motorcycle"]))
        # In the camera's own frame: what we overtake comes nearer, what overtakes us goes away.
        actor = stage.add(kind, (lane, 60.0))
        actor.size = (
            (1.8, 4.0, 1.5) if kind == "car" else (2.4, 7.0, 3.0) if kind in ("bus", "truck") else actor.size
        )
        if rng.random() < 0.6:
            passed = go(actor, start, (lane, 1.0), float(rng.uniform(4.0, 12.0)))
            act(actor, "is passed", passed - 1.0, passed)
        else:
            actor.place = Track(lane, 0.5, 0.0)
            go(actor, start, (lane, 70.0), float(rng.uniform(4.0, 10.0)))
            act(actor, "overtakes", start + 0.5, start + 2.0)
    if rng.random() < 0.5:
        lead = stage.add("car", (0.0, float(rng.uniform(12, 25))))
        lead.size = (1.8, 4.0, 1.5)
        if rng.random() < 0.5:
            start = float(rng.uniform(5, max(6.0, stage.duration - 8)))
            end = go(lead, start, (0.0, 5.5), float(rng.uniform(3.0, 6.0)))
            act(lead, "is in the way", end, end + 1.0)
    return stage.scene
