"""A stage: actors come and go, move, change size, tip over; an object changes its state; things go wrong.

Actors stand in a loose grid of slots so that they overlap little. Named events follow one another with gaps;
state changes and anomalies run beside them. All times lie on a grid of half seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.backgrounds import MARGIN, still
from train.synthetic.sprites.scenes.scene import SIZE, Actor, Event, Scene

COLUMNS_X = (36.0, 87.0, 138.0, 189.0)
ROWS_Y = (52.0, 114.0, 176.0)
OFF_STAGE = 70.0

VERBS = {
    "enters": "enters", "leaves": "leaves", "left": "moves left", "right": "moves right", "up": "moves up",
    "down": "moves down", "grows": "grows", "shrinks": "shrinks", "spins": "spins", "jumps": "jumps",
    "falls": "falls over", "rises": "gets up", "fades": "fades away", "appears": "appears",
}  # fmt: skip
"""Event kinds of an actor and the words that say them."""


@dataclass
class Story:
    """A scene and everything that is true of it."""

    scene: Scene
    family: str
    events: list[Event] = field(default_factory=list)
    """What actors do, in order of start."""
    changes: list[Event] = field(default_factory=list)
    """State changes; ``subject`` is the object, ``kind`` "state"."""
    anomalies: list[Event] = field(default_factory=list)
    detail: dict[str, object] = field(default_factory=dict)
    """What only one family knows, such as a dish or the hazards."""


def half(rng: np.random.Generator, low: float, high: float) -> float:
    """A random time on the half-second grid."""
    return float(rng.integers(round(low * 2), round(high * 2) + 1)) / 2


@dataclass
class _Standing:
    actor: Actor
    slot: tuple[int, int] | None
    fallen: bool = False
    scale: int = 0


class _Stage:
    def __init__(self, rng: np.random.Generator, names: list[str]) -> None:
        self.rng = rng
        self.size = float(rng.uniform(46, 62))
        self.cast = [
            _Standing(Actor.make(n, -OFF_STAGE, 100, self._size(), bob=rng.uniform(0, 6)), None)
            for n in names
        ]
        self.taken: set[tuple[int, int]] = set()

    def _size(self) -> float:
        return float(np.clip(self.size + self.rng.uniform(-6, 6), 44, 66))

    def free(self) -> list[tuple[int, int]]:
        return [(c, r) for c in range(4) for r in range(3) if (c, r) not in self.taken]

    def place(self, slot: tuple[int, int]) -> tuple[float, float]:
        """The point of a slot, with jitter; marks the slot as taken."""
        self.taken.add(slot)
        jitter = self.rng.uniform(-7, 7, 2)
        return COLUMNS_X[slot[0]] + jitter[0], ROWS_Y[slot[1]] + jitter[1]

    def pick(self, slots: list[tuple[int, int]]) -> tuple[int, int]:
        return slots[int(self.rng.integers(len(slots)))]

    def options(self, who: _Standing) -> list[str]:
        """Event kinds that make sense for this actor now."""
        if who.slot is None:
            return ["enters", "enters", "appears"]
        if who.fallen:
            return ["rises", "rises", "fades", "leaves"]
        kinds = ["leaves", "spins", "jumps", "falls", "fades"]
        c, r = who.slot
        free = self.free()
        kinds += ["left"] * any(s[1] == r and s[0] < c for s in free)
        kinds += ["right"] * any(s[1] == r and s[0] > c for s in free)
        kinds += ["up"] * any(s[0] == c and s[1] < r for s in free)
        kinds += ["down"] * any(s[0] == c and s[1] > r for s in free)
        kinds += ["grows"] * (who.scale < 1) + ["shrinks"] * (who.scale > -1)
        return kinds

    def act(self, who: _Standing, kind: str, t: float) -> float:
        """Let the actor do it from ``t`` on; returns when it is over."""
        a, rng = who.actor, self.rng
        if kind in ("enters", "appears"):
            slot = self.pick(self.free())
            x, y = self.place(slot)
            who.slot = slot
            if kind == "enters":
                end = t + half(rng, 1.5, 2.5)
                from_left = slot[0] < 2
                a.x.jump_to(t, -30.0 if from_left else SIZE + 30.0)
                a.y.jump_to(t, y)
                a.x.glide(t, end, x)
            else:
                end = t + 1.5
                a.opacity.jump_to(t, 0.0)
                a.x.jump_to(t, x)
                a.y.jump_to(t, y)
                a.opacity.glide(t, end, 1.0)
            return end
        assert who.slot is not None
        if kind in ("leaves", "fades"):
            end = t + half(rng, 1.5, 2.5)
            if kind == "leaves":
                a.x.glide(t, end, -30.0 if who.slot[0] < 2 else SIZE + 30.0)
            else:
                a.opacity.glide(t, end, 0.0)
                a.opacity.jump_to(end, 1.0)
            a.x.jump_to(end, -OFF_STAGE)
            a.angle.jump_to(end, 0.0)
            self.taken.discard(who.slot)
            who.slot, who.fallen = None, False
            return end
        if kind in ("left", "right", "up", "down"):
            c, r = who.slot
            goals = [
                s for s in self.free()
                if (kind in ("left", "right") and s[1] == r and (s[0] < c) == (kind == "left"))
                or (kind in ("up", "down") and s[0] == c and (s[1] < r) == (kind == "up"))
            ]  # fmt: skip
            goal = self.pick([s for s in goals if s != who.slot])
            self.taken.discard(who.slot)
            x, y = self.place(goal)
            end = t + half(rng, 2.0, 3.0)
            if kind in ("left", "right"):
                a.x.glide(t, end, x)
            else:
                a.y.glide(t, end, y)
            who.slot = goal
            return end
        if kind in ("grows", "shrinks"):
            end = t + half(rng, 1.5, 2.5)
            factor = 1.5 if kind == "grows" else 1 / 1.5
            who.scale += 1 if kind == "grows" else -1
            a.size.glide(t, end, a.size.at(t) * factor)
            return end
        if kind == "spins":
            end = t + half(rng, 3.0, 4.0)
            turn = 360 * 0.31 * (end - t)  # never a whole turn between two timesteps
            a.angle.glide(t, end, turn if rng.random() < 0.5 else -turn)
            a.angle.jump_to(end, 0.0)
            return end
        if kind == "jumps":
            end = t + half(rng, 2.0, 3.0)
            y = a.y.at(t)
            for start in np.arange(t, end - 0.25, 0.5):
                a.y.glide(start, start + 0.25, y - 30)
                a.y.glide(start + 0.25, start + 0.5, y)
            return end
        end = t + 1.0  # falls, rises
        who.fallen = kind == "falls"
        a.angle.glide(t, end, 90.0 if who.fallen else 0.0)
        return end


def stage_story(rng: np.random.Generator, names: list[str]) -> Story:
    """A stage with some of the actors ``names``; about eight events in 30 to 44 seconds."""
    duration = float(rng.integers(30, 45))
    count = int(rng.integers(2, 5))
    stage = _Stage(rng, [str(n) for n in rng.choice(names, count, replace=False)])
    story = Story(Scene(duration, still(rng), brightness=float(rng.uniform(0.8, 1.1))), "stage")
    scene = story.scene
    for who in stage.cast[: int(rng.integers(1, count + 1))]:  # these stand there from the start
        who.slot = stage.pick(stage.free())
        x, y = stage.place(who.slot)
        who.actor.x.jump_to(0.0, x)
        who.actor.y.jump_to(0.0, y)
    if rng.random() < 0.6:
        _add_stateful(stage, story)
    if rng.random() < 0.5:
        _add_anomalies(rng, story, *stage.place(stage.pick(stage.free())))
    scene.actors[:0] = [w.actor for w in stage.cast]
    if rng.random() < 0.25:
        for t in np.arange(3.0, duration - 6, 8.0):
            scene.camera_x.glide(t, t + 6, float(rng.uniform(-MARGIN / 2, MARGIN / 2)))
    t = half(rng, 1.5, 4.0)
    last = ""
    while t < duration - 5:
        who = stage.cast[int(rng.integers(count))]
        kinds = [k for k in stage.options(who) if k != last or k == "enters"]
        kind = kinds[int(rng.integers(len(kinds)))]
        end = stage.act(who, kind, t)
        story.events.append(Event(kind, who.actor.name, t, end, f"The {who.actor.name} {VERBS[kind]}."))
        last = kind
        t = end + half(rng, 1.0, 3.0)
    return story


def _add_stateful(stage: _Stage, story: Story) -> None:
    rng = stage.rng
    name = str(rng.choice(list(catalog.STATEFUL)))
    states = list(catalog.STATEFUL[name])
    x, y = stage.place(stage.pick(stage.free()))
    state = states[int(rng.integers(len(states)))]
    actor = Actor.make(name, x, y, stage._size() + 6, look=f"{name}/{state}")
    t = half(rng, 4.0, 10.0)
    while t < story.scene.duration - 4:
        state = str(rng.choice([s for s in states if s != state]))
        actor.looks.append((t, f"{name}/{state}"))
        story.changes.append(Event("state", name, t, t + 1.0, f"The {name} is now {state}."))
        t += half(rng, 5.0, 11.0)
    story.scene.actors.append(actor)


def _add_anomalies(rng: np.random.Generator, story: Story, x: float, y: float) -> None:
    t = half(rng, 5.0, 16.0)
    kinds = [str(k) for k in rng.permutation(list(catalog.ANOMALIES))]
    while t < story.scene.duration - 5 and len(story.anomalies) < 3:
        kind = kinds.pop()
        actor = Actor.make(kind, -OFF_STAGE, y, float(rng.uniform(46, 66)))
        end = t + half(rng, 4.0, 6.0)
        actor.x.jump_to(t, x)
        actor.x.jump_to(end, -OFF_STAGE)
        story.scene.actors.append(actor)
        story.anomalies.append(Event("anomaly", kind, t, end, f"Alert: {kind}."))
        t = end + half(rng, 5.0, 10.0)
