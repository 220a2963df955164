"""What a story holds to ask about: its events, the kinds of questions, and questions with their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.synthetic.detections import truth
from train.synthetic.detections.catalog import BAGS, MOBILE, ON_TABLES, VEHICLES
from train.synthetic.detections.language import Subject
from train.synthetic.detections.scene import Scene, View
from train.synthetic.detections.truth import Event


@dataclass(frozen=True)
class Facts:
    """A story and all that can be seen of it."""

    family: str
    scene: Scene
    view: View
    in_view: NDArray[np.bool_]
    events: tuple[Event, ...]

    @classmethod
    def of(cls, family: str, scene: Scene, view: View) -> Facts:
        in_view = truth.seen(scene, view)
        return cls(family, scene, view, in_view, tuple(truth.happens(scene, view, in_view)))

    def kind(self, who: int) -> str:
        """Class of an actor; "" for what happens to the camera."""
        return "" if who == truth.CAMERA else self.scene.actors[who].kind.name

    def present(self, subject: Subject) -> NDArray[np.int64]:
        """How many of a subject are seen at each moment [T]."""
        return truth.counts(self.scene.actors, self.in_view, lambda actor: actor.kind.name in subject.classes)


@dataclass(frozen=True)
class Answer:
    """``start`` and ``end`` are the event's own times (seconds)."""

    start: float
    end: float
    text: str
    keywords: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Question:
    """``hard``: nothing answers it although its subject is there, or the event happens to something else.
    ``about``: classes that its subject covers.
    """

    task: str
    kind: str
    time: float
    text: str
    answers: tuple[Answer, ...]
    hard: bool = False
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventKind:
    """A question about events: which ones, the task it belongs to, and whom it can be asked of."""

    name: str
    events: tuple[str, ...]
    tasks: tuple[str, ...]
    of: tuple[str, ...]


THINGS = (*ON_TABLES, *BAGS, "umbrella")
EVENT_KINDS = (
    EventKind("come_go", ("enters", "leaves"), ("OU",), MOBILE),
    EventKind("enter", ("enters",), ("AA", "OU"), MOBILE),
    EventKind("leave", ("leaves",), ("AA", "OU"), MOBILE),
    EventKind("stop", ("stops",), ("AA", "OU"), MOBILE),
    EventKind("move_off", ("drives off", "walks on"), ("AA", "OU"), ("person", *VEHICLES)),
    EventKind("sits", ("sits down",), ("AA", "OU"), ("person",)),
    EventKind("stands", ("stands up", "gets up"), ("AA", "OU"), ("person",)),
    EventKind("lies", ("lies down",), ("AA",), ("person",)),
    EventKind("falls", ("falls",), ("AA",), ("person",)),
    EventKind("runs", ("runs",), ("AA",), ("person",)),
    EventKind("taken", ("is taken away",), ("AA", "OU"), THINGS),
    EventKind("put", ("is put down", "is put back"), ("AA", "OU"), THINGS),
    EventKind("taken_put", ("is taken away", "is put down", "is put back"), ("OU",), THINGS),
    EventKind("topples", ("tips over",), ("AA",), ("bottle", "cup", "wine glass", "vase")),
    EventKind("moved", ("is moved",), ("AA", "OU"), THINGS),
    EventKind("left_bag", ("is left behind",), ("AA",), BAGS),
    EventKind("jumps", ("jumps onto",), ("AA",), ("cat", "dog")),
    EventKind("gets_out", ("gets out",), ("AA",), ("person",)),
    EventKind("meets", ("meets",), ("AA",), ("person",)),
    EventKind("reverses", ("backs up",), ("AA", "OU"), VEHICLES),
    EventKind("carried", ("is carried past",), ("AA", "OU"), (*BAGS, "umbrella")),
    EventKind("passed", ("is passed",), ("OU",), VEHICLES),
    EventKind("overtakes", ("overtakes",), ("OU",), VEHICLES),
)
COUNT_KINDS = {"two": (1, 2), "three": (2, 3), "group": (3, 4), "alone": (2, 1), "empty": (1, 0)}
"""The change of a count that a question waits for: from, to (or beyond)."""
