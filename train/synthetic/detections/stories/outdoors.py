"""Streets, driveways, yards and paths: people, vehicles and animals come, stop and go."""

from __future__ import annotations

import numpy as np

from train.synthetic.detections.catalog import VEHICLES
from train.synthetic.detections.scene import Scene
from train.synthetic.detections.stories.stage import (
    LIE,
    STAND,
    Layout,
    Stage,
    act,
    carried,
    go,
    hide_far_away,
    pose,
)


def outdoors(rng: np.random.Generator, layout: Layout) -> Scene:
    """A fixed camera outdoors, from a doorbell's height to a mast's."""
    draw = rng.random()
    if draw < 0.33:
        stage = Stage.make(rng, layout, height_m=(1.2, 2.2), look_at_m=(4.0, 9.0))
    elif draw < 0.88:
        stage = Stage.make(rng, layout, height_m=(2.5, 9.0), look_at_m=(9.0, 26.0))
    else:  # from a mast or a bridge, steeply down
        stage = Stage.make(rng, layout, height_m=(5.0, 12.0), look_at_m=(1.5, 6.0))
    stage.along = rng.random() < 0.3
    for _ in range(stage.several(0, 4)):
        what = str(rng.choice(["car", "car", "truck", "bench", "potted plant", "bicycle", "motorcycle"]))
        stage.add(what, stage.spot(down=(0.3, 0.7)))
    doings = (
        (pass_by, 0.26), (visit, 0.22), (vehicle_passes, 0.2), (vehicle_stops, 0.14), (animal_visits, 0.1),
        (runs_past, 0.05), (falls, 0.05), (meet, 0.06), (leave_bag, 0.06), (depart, 0.05), (drives_off, 0.05),
        (parcel, 0.04), (reverses, 0.05), (carry_past, 0.06), (gather, 0.05),
    )  # fmt: skip
    shares = np.array([share for _, share in doings])
    for start in stage.times(int(rng.integers(1, 7))):
        doing = doings[int(rng.choice(len(doings), p=shares / shares.sum()))][0]
        doing(stage, start)
    if rng.random() < 0.04:
        stage.cover()
    hide_far_away(stage.scene)
    return stage.scene


def _depth(stage: Stage) -> float:
    return stage.spot()[1]


def pass_by(stage: Stage, start: float) -> None:
    """Someone walks through, now and then in a group, on foot or with a bicycle."""
    side, depth = stage.side(), _depth(stage)
    kind = "bicycle" if stage.rng.random() < 0.12 else "person"
    for _ in range(int(stage.rng.choice([1, 1, 1, 2, 3]))):
        actor = stage.add(kind, stage.beside(depth, side))
        far = stage.beside(depth + float(stage.rng.normal(0, 1)), -side)
        go(actor, start + float(stage.rng.uniform(0, 1.5)), far, _pace(stage, kind))


def visit(stage: Stage, start: float) -> None:
    """Someone comes, stands for a while and goes, or stays to the end."""
    side = stage.side()
    actor = stage.add("person", stage.beside(_depth(stage), side))
    arrival = go(actor, start, stage.spot(), _pace(stage, "person"))
    act(actor, "stops", arrival, arrival + 1)
    leaving = arrival + float(stage.rng.uniform(4, 20))
    if leaving < stage.duration - 3 and stage.rng.random() < 0.8:
        act(actor, "walks on", leaving, leaving + 1)
        go(actor, leaving, stage.beside(_depth(stage), stage.side()), _pace(stage, "person"))


def depart(stage: Stage, start: float) -> None:
    """Someone who was there from the start goes."""
    actor = stage.add("person", stage.spot())
    act(actor, "walks on", start, start + 1)
    go(actor, start, stage.beside(_depth(stage), stage.side()), _pace(stage, "person"))


def runs_past(stage: Stage, start: float) -> None:
    side, depth = stage.side(), _depth(stage)
    actor = stage.add("person", stage.beside(depth, side))
    end = go(actor, start, stage.beside(depth, -side), float(stage.rng.uniform(3.2, 5.0)))
    act(actor, "runs", start, end)


def falls(stage: Stage, start: float) -> None:
    actor = stage.add("person", stage.beside(_depth(stage), stage.side()))
    arrival = go(actor, start, stage.spot(), _pace(stage, "person"))
    down = pose(actor, arrival, LIE, 0.6)
    act(actor, "falls", arrival, down)
    up = down + float(stage.rng.uniform(4, 15))
    if up < stage.duration - 4 and stage.rng.random() < 0.5:
        stood = pose(actor, up, STAND, 1.5)
        act(actor, "gets up", up, stood)
        go(actor, stood + 1, stage.beside(_depth(stage), stage.side()), _pace(stage, "person"))


def meet(stage: Stage, start: float) -> None:
    """Two come from both sides, stand together and part."""
    x, y = stage.spot()
    pair = [stage.add("person", stage.beside(y, side)) for side in (-1, 1)]
    arrivals = [
        go(actor, start, (x + 0.5 * side, y), _pace(stage, "person"))
        for actor, side in zip(pair, (-1, 1), strict=True)
    ]
    together = max(arrivals)
    act(pair[0], "meets", together, together + 1, pair[1].name)
    parting = together + float(stage.rng.uniform(4, 15))
    for actor in pair:
        go(actor, parting, stage.beside(y, stage.side()), _pace(stage, "person"))


def leave_bag(stage: Stage, start: float) -> None:
    """Someone puts a bag down and goes without it."""
    actor = stage.add("person", stage.beside(_depth(stage), stage.side()))
    spot = stage.spot(down=(0.45, 0.85))
    arrival = go(actor, start, spot, _pace(stage, "person"))
    bag = stage.add(
        str(stage.rng.choice(["backpack", "suitcase", "handbag"])), (spot[0] + 0.5, spot[1] - 0.1)
    )
    bag.there.go(0.0, 0.0).jump(arrival + 1, 1.0)
    act(actor, "puts down", arrival + 1, arrival + 2, bag.name)
    away = arrival + float(stage.rng.uniform(3, 7))
    gone = go(actor, away, stage.beside(_depth(stage), stage.side()), _pace(stage, "person"))
    act(bag, "is left behind", away + 2, gone, actor.name)


def parcel(stage: Stage, start: float) -> None:
    """Someone brings a parcel near to the camera and goes; now and then somebody comes and takes it."""
    courier = stage.add("person", stage.beside(_depth(stage), stage.side()))
    spot = stage.spot(across=(0.3, 0.7), down=(0.6, 0.9))
    arrival = go(courier, start, spot, _pace(stage, "person"))
    act(courier, "stops", arrival, arrival + 1)
    thing = stage.add(str(stage.rng.choice(["suitcase", "backpack"])), (spot[0] + 0.4, spot[1] - 0.1))
    thing.there.go(0.0, 0.0).jump(arrival + 2, 1.0)
    act(courier, "puts down", arrival + 2, arrival + 3, thing.name)
    away = arrival + float(stage.rng.uniform(4, 9))
    act(courier, "walks on", away, away + 1)
    gone = go(courier, away, stage.beside(_depth(stage), stage.side()), _pace(stage, "person"))
    act(thing, "is left behind", away + 2, max(gone, away + 3), courier.name)
    fetched = gone + float(stage.rng.uniform(2, 12))
    if fetched < stage.duration - 8 and stage.rng.random() < 0.5:
        taker = stage.add("person", stage.beside(spot[1], stage.side()))
        there = go(taker, fetched, (spot[0] + 0.8, spot[1]), _pace(stage, "person"))
        thing.there.jump(there + 0.8, 0.0)
        act(thing, "is taken away", there + 0.6, there + 1.0, taker.name)
        go(taker, there + 1.5, stage.beside(spot[1], stage.side()), _pace(stage, "person"))


def vehicle_passes(stage: Stage, start: float) -> None:
    side, depth = stage.side(), max(5.0, _depth(stage))
    actor = stage.add(_vehicle(stage), stage.beside(depth, side))
    go(actor, start, stage.beside(depth, -side), float(stage.rng.uniform(3.0, 9.0)))


def vehicle_stops(stage: Stage, start: float) -> None:
    """A vehicle comes, stops or parks, someone may get out, and it may drive off again."""
    x, y = stage.spot(across=(0.25, 0.75))
    y = max(y, 4.0)
    actor = stage.add(_vehicle(stage), stage.beside(y, stage.side()))
    arrival = go(actor, start, (x, y), float(stage.rng.uniform(2.0, 5.0)))
    act(actor, "stops", arrival, arrival + 1)
    ready = arrival + float(stage.rng.uniform(3, 14))
    if stage.rng.random() < 0.35:
        person = stage.add("person", (x + 1.2, y - 1.2))
        person.there.go(0.0, 0.0).jump(arrival + 1.5, 1.0)
        act(person, "gets out", arrival + 1.5, arrival + 2.5, actor.name)
        go(person, arrival + 2.5, stage.beside(y - 1, stage.side()), _pace(stage, "person"))
    if ready < stage.duration - 3 and stage.rng.random() < 0.7:
        act(actor, "drives off", ready, ready + 1)
        go(actor, ready, stage.beside(y, stage.side()), float(stage.rng.uniform(2.0, 5.0)))


def drives_off(stage: Stage, start: float) -> None:
    """A vehicle that stood there drives off."""
    x, y = stage.spot(across=(0.25, 0.75))
    actor = stage.add(_vehicle(stage), (x, max(y, 4.0)))
    act(actor, "drives off", start, start + 1)
    go(actor, start, stage.beside(max(y, 4.0), stage.side()), float(stage.rng.uniform(2.0, 5.0)))


def reverses(stage: Stage, start: float) -> None:
    """A vehicle comes, stops, and goes back the way it came."""
    x, y = stage.spot(across=(0.25, 0.75))
    outside = stage.beside(max(y, 4.0), stage.side())
    actor = stage.add(_vehicle(stage), outside)
    arrival = go(actor, start, (x, max(y, 4.0)), float(stage.rng.uniform(2.0, 5.0)))
    act(actor, "stops", arrival, arrival + 1)
    back = arrival + float(stage.rng.uniform(2, 10))
    if back < stage.duration - 3:
        act(actor, "backs up", back, back + 1.5)
        go(actor, back, outside, float(stage.rng.uniform(1.0, 2.5)))


def carry_past(stage: Stage, start: float) -> None:
    """Someone walks through with a bag or an umbrella."""
    side, depth = stage.side(), _depth(stage)
    actor = stage.add("person", stage.beside(depth, side))
    carried(stage, actor, start, stage.beside(depth, -side))


def gather(stage: Stage, start: float) -> None:
    """Three to five come one after the other and stand together; some go again."""
    x, y = stage.spot(across=(0.35, 0.65))
    for number in range(int(stage.rng.integers(3, 6))):
        actor = stage.add("person", stage.beside(y, stage.side()))
        place = x + 0.7 * (number - 2), y + float(stage.rng.normal(0, 0.4))
        arrival = go(actor, start + number * float(stage.rng.uniform(0.5, 4)), place, _pace(stage, "person"))
        act(actor, "stops", arrival, arrival + 1)
        leaving = arrival + float(stage.rng.uniform(8, 30))
        if leaving < stage.duration - 3 and stage.rng.random() < 0.6:
            go(actor, leaving, stage.beside(y, stage.side()), _pace(stage, "person"))


def animal_visits(stage: Stage, start: float) -> None:
    kind = str(stage.rng.choice(["dog", "dog", "cat", "cat", "bird", "horse", "cow", "sheep", "bear"]))
    actor = stage.add(kind, stage.beside(_depth(stage), stage.side()))
    speed = float(stage.rng.uniform(0.8, 3.0))
    arrival = go(actor, start, stage.spot(), speed)
    if stage.rng.random() < 0.6:
        act(actor, "stops", arrival, arrival + 1)
        arrival += float(stage.rng.uniform(3, 10))
    if arrival < stage.duration - 3:
        go(actor, arrival, stage.beside(_depth(stage), stage.side()), speed)


def _vehicle(stage: Stage) -> str:
    return str(stage.rng.choice(VEHICLES, p=[0.66, 0.14, 0.08, 0.12]))


def _pace(stage: Stage, kind: str) -> float:
    return float(stage.rng.uniform(2.5, 5.0) if kind == "bicycle" else stage.rng.uniform(0.9, 1.7))
