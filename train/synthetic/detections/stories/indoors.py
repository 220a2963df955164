"""Rooms, hallways, shops and offices: people come in, sit, lie, fall, carry things; pets come by."""

from __future__ import annotations

import numpy as np

from train.synthetic.detections.catalog import BAGS
from train.synthetic.detections.scene import Actor, Scene
from train.synthetic.detections.stories.stage import (
    LIE,
    SIT,
    STAND,
    Layout,
    Stage,
    act,
    carried,
    go,
    hide_far_away,
    pose,
)

FURNITURE = (
    "chair",
    "chair",
    "couch",
    "dining table",
    "tv",
    "potted plant",
    "bed",
    "refrigerator",
    "laptop",
    "clock",
)


def indoors(rng: np.random.Generator, layout: Layout) -> Scene:
    """A camera in a corner, on a shelf or above a door."""
    stage = Stage.make(rng, layout, height_m=(1.0, 3.0), look_at_m=(2.5, 6.5), field_of_view=(55.0, 105.0))
    stage.along = rng.random() < 0.2  # a corridor
    for _ in range(stage.several(0, 5)):
        what = str(rng.choice(FURNITURE))
        z = float(rng.uniform(0.7, 1.6)) if what in ("tv", "clock", "laptop") else 0.0
        stage.add(what, stage.spot(down=(0.35, 0.8)), z)
    doings = (
        (comes_and_goes, 0.32), (sits_down, 0.2), (someone_there_goes, 0.1), (lies_down, 0.06), (falls, 0.07),
        (pet, 0.14), (pet_on_furniture, 0.06), (brings_thing, 0.08), (second_follows, 0.08),
        (runs_through, 0.03), (queue, 0.05), (carry_past, 0.05),
    )  # fmt: skip
    shares = np.array([share for _, share in doings])
    for start in stage.times(int(rng.integers(1, 6))):
        doings[int(rng.choice(len(doings), p=shares / shares.sum()))][0](stage, start)
    if rng.random() < 0.05:
        stage.cover()
    hide_far_away(stage.scene)
    return stage.scene


def _comes(stage: Stage, start: float) -> tuple[Actor, float]:
    """Someone comes in, from a side or through a door in the picture; returns who and when."""
    spot = stage.spot(down=(0.45, 0.9))
    if stage.rng.random() < 0.3:
        actor = stage.add("person", stage.spot(down=(0.3, 0.5)))
        actor.there.go(0.0, 0.0).jump(start, 1.0)
    else:
        actor = stage.add("person", stage.beside(spot[1], stage.side()))
    return actor, go(actor, start, spot, _pace(stage))


def _goes(stage: Stage, actor: Actor, start: float) -> None:
    if start < stage.duration - 2:
        act(actor, "walks on", start, start + 1)
        go(actor, start, stage.beside(actor.place.last[1], stage.side()), _pace(stage))


def comes_and_goes(stage: Stage, start: float) -> None:
    actor, arrival = _comes(stage, start)
    act(actor, "stops", arrival, arrival + 1)
    if stage.rng.random() < 0.8:
        _goes(stage, actor, arrival + float(stage.rng.uniform(3, 22)))


def second_follows(stage: Stage, start: float) -> None:
    """Two come in one after the other and leave at different times."""
    for later in (0.0, float(stage.rng.uniform(2, 6))):
        comes_and_goes(stage, start + later)


def someone_there_goes(stage: Stage, start: float) -> None:
    actor = stage.add("person", stage.spot(down=(0.45, 0.9)))
    if stage.rng.random() < 0.4:
        actor.shape.go(0.0, *SIT)
        up = pose(actor, start, STAND, 1.0)
        act(actor, "stands up", start, up)
        start = up
    _goes(stage, actor, start)


def sits_down(stage: Stage, start: float) -> None:
    actor, arrival = _comes(stage, start)
    down = pose(actor, arrival, SIT, 1.0)
    act(actor, "sits down", arrival, down)
    up = down + float(stage.rng.uniform(5, 25))
    if up < stage.duration - 4 and stage.rng.random() < 0.75:
        stood = pose(actor, up, STAND, 1.0)
        act(actor, "stands up", up, stood)
        _goes(stage, actor, stood + float(stage.rng.uniform(0, 3)))


def lies_down(stage: Stage, start: float) -> None:
    actor, arrival = _comes(stage, start)
    down = pose(actor, arrival, LIE, 2.5)
    act(actor, "lies down", arrival, down)


def falls(stage: Stage, start: float) -> None:
    actor, arrival = _comes(stage, start)
    down = pose(actor, arrival, LIE, 0.6)
    act(actor, "falls", arrival, down)
    up = down + float(stage.rng.uniform(4, 15))
    if up < stage.duration - 4 and stage.rng.random() < 0.5:
        stood = pose(actor, up, STAND, 2.0)
        act(actor, "gets up", up, stood)


def runs_through(stage: Stage, start: float) -> None:
    side, depth = stage.side(), stage.spot()[1]
    actor = stage.add("person", stage.beside(depth, side))
    end = go(actor, start, stage.beside(depth, -side), float(stage.rng.uniform(2.6, 4.0)))
    act(actor, "runs", start, end)


def pet(stage: Stage, start: float) -> None:
    kind = str(stage.rng.choice(["dog", "cat"]))
    spot = stage.spot(down=(0.45, 0.9))
    actor = stage.add(kind, stage.beside(spot[1], stage.side()))
    arrival = go(actor, start, spot, float(stage.rng.uniform(0.6, 2.0)))
    act(actor, "stops", arrival, arrival + 1)
    leaving = arrival + float(stage.rng.uniform(3, 15))
    if leaving < stage.duration - 3 and stage.rng.random() < 0.75:
        go(actor, leaving, stage.beside(spot[1], stage.side()), float(stage.rng.uniform(0.8, 2.5)))


def pet_on_furniture(stage: Stage, start: float) -> None:
    """A cat or dog jumps onto a couch, bed or table and perhaps down again."""
    on, height = (("couch", 0.45), ("bed", 0.5), ("dining table", 0.74))[int(stage.rng.integers(3))]
    spot = stage.spot(across=(0.3, 0.7), down=(0.45, 0.8))
    place = stage.add(on, spot)
    actor = stage.add(str(stage.rng.choice(["cat", "cat", "dog"])), stage.beside(spot[1], stage.side()))
    near = (spot[0], spot[1] - 0.2)
    arrival = go(actor, start, (spot[0] + 0.9, spot[1] - 0.6), float(stage.rng.uniform(0.8, 2.0)))
    up = go(actor, arrival + 0.5, near, 2.5, height)
    act(actor, "jumps onto", arrival + 0.5, up, place.name)
    down = up + float(stage.rng.uniform(4, 15))
    if down < stage.duration - 3 and stage.rng.random() < 0.6:
        ground = go(actor, down, (spot[0] - 0.9, spot[1] - 0.7), 2.5, 0.0)
        act(actor, "jumps down", down, ground, place.name)


def brings_thing(stage: Stage, start: float) -> None:
    """Someone brings a bag or a thing and leaves it, or takes one away that was there."""
    what = str(stage.rng.choice([*BAGS, "umbrella", "laptop", "book", "vase", "teddy bear"]))
    actor, arrival = _comes(stage, start)
    x, y, _ = actor.place.last
    thing = stage.add(what, (x + 0.45, y - 0.15))
    if stage.rng.random() < 0.6:
        thing.there.go(0.0, 0.0).jump(arrival + 0.8, 1.0)
        act(actor, "puts down", arrival + 0.8, arrival + 1.8, thing.name)
        leaving = arrival + float(stage.rng.uniform(3, 8))
        if what in BAGS:
            act(thing, "is left behind", leaving + 2, leaving + 4, actor.name)
    else:
        thing.there.jump(arrival + 0.8, 0.0)
        act(actor, "picks up", arrival + 0.8, arrival + 1.8, thing.name)
        leaving = arrival + float(stage.rng.uniform(2, 8))
    _goes(stage, actor, leaving)


def queue(stage: Stage, start: float) -> None:
    """People line up one behind the other; the first is served and goes, the others move up."""
    x, y = stage.spot(across=(0.35, 0.65), down=(0.5, 0.8))
    people: list[Actor] = []
    for number in range(int(stage.rng.integers(2, 5))):
        actor = stage.add("person", stage.beside(y, stage.side()))
        arrival = go(actor, start, (x + 0.75 * number, y + 0.15 * number), _pace(stage))
        act(actor, "stops", arrival, arrival + 1)
        people.append(actor)
        start += float(stage.rng.uniform(2, 7))
    served = max(actor.place.end for actor in people)
    while people and (served := served + float(stage.rng.uniform(5, 12))) < stage.duration - 4:
        _goes(stage, people.pop(0), served)
        for number, actor in enumerate(people):
            go(actor, served + 1 + 0.4 * number, (x + 0.75 * number, y + 0.15 * number), 0.8)


def carry_past(stage: Stage, start: float) -> None:
    """Someone walks through with a bag or an umbrella."""
    side, depth = stage.side(), stage.spot(down=(0.45, 0.9))[1]
    actor = stage.add("person", stage.beside(depth, side))
    carried(stage, actor, start, stage.beside(depth, -side))


def _pace(stage: Stage) -> float:
    return float(stage.rng.uniform(0.7, 1.5))
