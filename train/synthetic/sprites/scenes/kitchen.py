"""A kitchen: ingredients on a table go into a pot, one after the other, following a dish's plan.

The cook waits for an instruction, then carries the ingredient over; a step is complete at the whole second at
which it has sunk into the pot. A second before that it still hovers above, so completion can be foreseen.
"""

from __future__ import annotations

import numpy as np

from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.backgrounds import still
from train.synthetic.sprites.scenes.scene import Actor, Event, Scene
from train.synthetic.sprites.scenes.stage import COLUMNS_X, OFF_STAGE, ROWS_Y, Story, half

POT_PLACE = (112.0, 178.0)
HOVER = 62.0


def kitchen_story(rng: np.random.Generator, _names: list[str]) -> Story:
    """One dish cooked; ``detail`` holds ``dish``, ``asked`` (query time) and ``done`` (completion times)."""
    dish = str(rng.choice(list(catalog.DISHES)))
    plan = catalog.DISHES[dish]
    others = [f for f in catalog.FOOD if f not in plan]
    extra = [str(f) for f in rng.choice(others, int(rng.integers(1, 3)), replace=False)]
    slots = [(c, r) for r in range(2) for c in range(4)]
    order = rng.permutation(len(slots))
    scene = Scene(40.0, still(rng), brightness=float(rng.uniform(0.85, 1.1)))
    story = Story(scene, "kitchen")
    scene.actors.append(Actor.make("pot", *POT_PLACE, float(rng.uniform(74, 84))))
    food: dict[str, Actor] = {}
    for name, i in zip([*plan, *extra], order, strict=False):
        c, r = slots[int(i)]
        jitter = rng.uniform(-6, 6, 2)
        food[name] = Actor.make(
            name,
            COLUMNS_X[c] + jitter[0],
            ROWS_Y[r] - 12 + jitter[1],
            float(rng.uniform(42, 50)),
            bob=rng.uniform(0, 6),
        )
    scene.actors += list(food.values())
    asked = int(rng.integers(2, 7))
    t = float(asked)
    done: list[float] = []
    for name in plan:
        if rng.random() < 0.3:  # a wrong ingredient is only pushed about
            t = _push(rng, food[extra[int(rng.integers(len(extra)))]], t + 1.0)
        start = t + half(rng, 1.0, 2.5)
        complete = float(np.ceil(start + float(rng.uniform(3.0, 4.5))))
        item = food[name]
        item.x.glide(start, complete - 1.5, POT_PLACE[0])
        item.y.glide(start, complete - 1.5, POT_PLACE[1] - HOVER)
        item.y.glide(complete - 1.0, complete, POT_PLACE[1] - 14)
        item.x.jump_to(complete + 0.5, -OFF_STAGE)
        story.events.append(Event("into", name, start, complete, f"The {name} goes into the pot."))
        done.append(complete)
        t = complete
    scene.duration = float(np.ceil(t + 4))
    story.detail = {"dish": dish, "asked": float(asked), "done": done}
    return story


def _push(rng: np.random.Generator, item: Actor, t: float) -> float:
    end = t + 2.0
    item.x.glide(t, end, float(np.clip(item.x.at(t) + rng.choice((-28.0, 28.0)), 30, 194)))
    return end
