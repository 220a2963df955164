"""Things on a table seen from near: hands take them away, bring them back, add new ones, knock them over.

The table's top is the ground here: the camera's height is its height above the table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from train.synthetic.detections.catalog import ON_TABLES
from train.synthetic.detections.scene import Actor, Scene
from train.synthetic.detections.stories.stage import Layout, Stage, act, go, where

SETTINGS: tuple[tuple[str, ...], ...] = (
    ("bowl", "cup", "fork", "knife", "spoon"),
    ("laptop", "mouse", "keyboard", "cup", "cell phone", "book"),
    ("wine glass", "bottle", "bowl", "fork", "knife"),
    ("bottle", "cup", "apple", "banana", "orange", "bowl"),
    ("cake", "knife", "cup", "fork", "bowl"),
)
"""What lies together on real tables."""

Doing = Callable[[Stage, float, list[Actor], list[Actor], list[str]], None]
"""Takes a stage, a time, things on the table, things taken away, and kinds of things to come."""


def tabletop(rng: np.random.Generator, layout: Layout) -> Scene:
    """A camera that looks down on a table, a counter or a shelf."""
    stage = Stage.make(
        rng,
        layout,
        height_m=(0.35, 1.1),
        look_at_m=(0.6, 1.3),
        duration=(25.0, 60.0),
        field_of_view=(45.0, 80.0),
    )
    if rng.random() < 0.4:
        stage.add("dining table", (0.0, 1.0), -0.74)
    if rng.random() < 0.25:
        _lay(stage)
        return stage.scene
    kinds = _kinds(rng)
    laid = [stage.add(kind, _free(stage)) for kind in kinds[: int(rng.integers(1, len(kinds) + 1))]]
    waiting = kinds[len(laid) :]
    away: list[Actor] = []
    for start in stage.times(int(rng.integers(1, 6)), start=3.0):
        options: list[Doing] = [hand_moves] if laid else []
        options += [take_away, topple] if laid else []
        options += [bring_back, bring_back] if away else []
        options += [put_new, put_new] if waiting else []
        if not options:
            break
        options[int(rng.integers(len(options)))](stage, start, laid, away, waiting)
    return stage.scene


def _lay(stage: Stage) -> None:
    """Different things are put down one after the other, as one lays a table or packs."""
    kinds = [str(kind) for kind in stage.rng.permutation(SETTINGS[int(stage.rng.integers(len(SETTINGS)))])]
    if stage.rng.random() < 0.5:
        kinds = [str(kind) for kind in stage.rng.choice(ON_TABLES, 5, replace=False)]
    kinds = kinds[: int(stage.rng.integers(2, 6))]
    laid: list[Actor] = []
    for start in stage.times(len(kinds), start=3.0, end=6.0):
        last = max((actor.place.end for actor in stage.scene.actors), default=0.0)
        if max(start, last + 1.0) < stage.duration - 4:
            put_new(stage, max(start, last + 1.0), laid, [], kinds)


def _kinds(rng: np.random.Generator) -> list[str]:
    """Kinds of the things of a story: a setting, several of one kind, or any."""
    drawn = rng.random()
    if drawn < 0.4:
        return [str(kind) for kind in rng.permutation(SETTINGS[int(rng.integers(len(SETTINGS)))])]
    if drawn < 0.7:
        return [str(rng.choice(ON_TABLES))] * int(rng.integers(2, 5))
    return [str(kind) for kind in rng.choice(ON_TABLES, int(rng.integers(2, 5)), replace=False)]


def _free(stage: Stage) -> tuple[float, float]:
    """A place on the table at some distance from what lies there."""
    spot = stage.spot(across=(0.12, 0.88), down=(0.35, 0.92))
    for _ in range(30):
        taken = [actor.place.last[:2] for actor in stage.scene.actors if actor.kind.name in ON_TABLES]
        if all(np.hypot(spot[0] - x, spot[1] - y) > 0.14 for x, y in taken):
            break
        spot = stage.spot(across=(0.12, 0.88), down=(0.35, 0.92))
    return spot


def _hand(stage: Stage, start: float, to: tuple[float, float]) -> tuple[Actor, float]:
    """A hand (to the detector: a person, cut off) reaches to a place; returns it and when it is there."""
    side = stage.side()
    outside = (
        side * (abs(stage.beside(to[1], side)[0]) - 2.0 + 0.5),
        to[1] + float(stage.rng.uniform(-0.3, 0.6)),
    )
    hand = stage.add("person", outside, float(stage.rng.uniform(0.03, 0.12)))
    hand.size = (0.45, 0.12, 0.14)
    return hand, go(hand, start, (to[0] + side * 0.22, to[1]), float(stage.rng.uniform(0.4, 0.9)))


def _withdraw(stage: Stage, hand: Actor, start: float) -> float:
    x, y, _ = hand.place.last
    side = 1 if x > 0 else -1
    return go(hand, start, (side * (abs(stage.beside(y, side)[0]) - 2.0 + 0.5), y + 0.2), 0.8)


def take_away(stage: Stage, start: float, laid: list[Actor], away: list[Actor], _: list[str]) -> None:
    thing = laid.pop(int(stage.rng.integers(len(laid))))
    hand, there = _hand(stage, max(start, thing.place.end), where(thing))
    gone = _withdraw(stage, hand, there + 0.5)
    thing.place.hold(there + 0.5).go(gone, *hand.place.last[:2], 0.15)
    thing.there.jump(gone, 0.0)
    act(thing, "is taken away", there + 0.5, gone, hand.name)
    away.append(thing)


def bring_back(stage: Stage, start: float, laid: list[Actor], away: list[Actor], _: list[str]) -> None:
    thing = away.pop(int(stage.rng.integers(len(away))))
    spot = _free(stage)
    hand, there = _hand(stage, max(start, thing.place.end + 1.0, thing.there.end + 1.0), spot)
    thing.place.jump(there - 0.9, *hand.place.at(np.array([there - 0.9]))[0][:2], 0.1).go(
        there + 0.3, *spot, 0.0
    )
    thing.there.jump(there - 0.9, 1.0)
    act(thing, "is put back", there - 0.6, there + 0.3, hand.name)
    _withdraw(stage, hand, there + 0.6)
    laid.append(thing)


def put_new(stage: Stage, start: float, laid: list[Actor], _: list[Actor], waiting: list[str]) -> None:
    spot = _free(stage)
    hand, there = _hand(stage, start, spot)
    thing = stage.add(waiting.pop(0), spot)
    thing.there.go(0.0, 0.0).jump(there - 0.5, 1.0)
    act(thing, "is put down", there - 0.5, there + 0.3, hand.name)
    _withdraw(stage, hand, there + 0.6)
    laid.append(thing)


def topple(stage: Stage, start: float, laid: list[Actor], _: list[Actor], __: list[str]) -> None:
    tall = [thing for thing in laid if thing.size[2] > 1.6 * thing.size[0]]
    if not tall:
        return
    thing = tall[int(stage.rng.integers(len(tall)))]
    hand, there = _hand(stage, max(start, thing.place.end), where(thing))
    width, _depth, height = thing.size
    thing.shape.hold(there).go(there + 0.4, height / width, 1.0, width / height)
    act(thing, "tips over", there, there + 0.4, hand.name)
    _withdraw(stage, hand, there + 0.5)
    laid.remove(thing)  # nothing more happens to it: what lies is not told apart from what stands any more


def hand_moves(stage: Stage, start: float, laid: list[Actor], _: list[Actor], __: list[str]) -> None:
    """A hand moves a thing, or reaches in and does nothing: something happens that few questions ask for."""
    thing = laid[int(stage.rng.integers(len(laid)))]
    hand, there = _hand(stage, max(start, thing.place.end), where(thing))
    if stage.rng.random() < 0.5:
        spot = _free(stage)
        end = go(thing, there + 0.3, spot, 0.3)
        go(hand, there + 0.3, (spot[0] + (0.22 if hand.place.last[0] > spot[0] else -0.22), spot[1]), 0.3)
        act(thing, "is moved", there + 0.3, end, hand.name)
    _withdraw(stage, hand, hand.place.end + 0.5)
