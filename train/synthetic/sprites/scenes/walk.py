"""A walk: obstacles come nearer along a path, some in the way, some passing by at the side.

With time to contact ``c`` an obstacle lies ``1 + NEARNESS * c`` contact distances away, so its size on the
frame is ``contact size / (1 + NEARNESS * c)``: the true perspective of an approach at constant speed.
"""

from __future__ import annotations

import numpy as np

from train.synthetic.sprites.scenes.backgrounds import HORIZON, walking
from train.synthetic.sprites.scenes.scene import SIZE, Actor, Event, Scene
from train.synthetic.sprites.scenes.stage import OFF_STAGE, Story, half

NEARNESS = 0.8
CONTACT_SIZE = 200.0
SEEN_BEFORE_S = 9.0


def walk_story(rng: np.random.Generator, names: list[str]) -> Story:
    """A walk with two to four hazards; ``events``: the contacts; ``detail["passing"]`` what passes by."""
    duration = float(rng.integers(32, 45))
    nearness = float(NEARNESS * rng.uniform(0.92, 1.08))
    scene = Scene(duration, walking(rng, nearness), brightness=float(rng.uniform(0.8, 1.1)))
    story = Story(scene, "walk", detail={"passing": []})
    passing: list[Event] = []
    pool = [str(n) for n in rng.permutation(names)]
    t = half(rng, 7.0, 12.0)
    while t < duration - 2 and pool:
        name = pool.pop()
        hazard = rng.random() < 0.62
        scene.actors.insert(0, _approach(rng, name, t, nearness, hazard))
        if hazard:
            story.events.append(Event("hazard", name, t, t + 1.0, f"Watch out: {name} ahead."))
        else:
            passing.append(Event("passes", name, t - 3.0, t, f"The {name} passes by."))
        t += half(rng, 5.0, 9.0)
    if not story.events:  # a walk without any danger would ask nothing
        return walk_story(rng, names)
    story.detail["passing"] = passing
    return story


def _approach(rng: np.random.Generator, name: str, contact: float, nearness: float, hazard: bool) -> Actor:
    side = float(rng.choice((-1.0, 1.0)))
    lateral = side * float(rng.uniform(0.0, 0.12) if hazard else rng.uniform(0.9, 1.5))
    size = CONTACT_SIZE * float(rng.uniform(0.92, 1.08))
    actor = Actor.make(name, -OFF_STAGE, 0.0, 4.0)
    first = max(0.0, contact - SEEN_BEFORE_S)
    for when in np.arange(first, contact - 0.15, 0.2):
        scale = 1.0 / (1.0 + nearness * (contact - when))
        at = SIZE / 2 + lateral * 150 * scale * 1.6
        for track, value in (
            (actor.size, size * scale),
            (actor.x, at),
            (actor.y, HORIZON + (SIZE - HORIZON) * min(1.0, 1.3 * scale) - 0.42 * size * scale),
        ):
            if when == first:
                track.jump_to(when, value)
            else:
                track.reach(when, value)
    # At contact a hazard is stepped around: it slips off the frame to the side.
    actor.x.glide(max(contact, first), max(contact, first) + 0.4, SIZE / 2 + (side or 1.0) * 320)
    return actor
