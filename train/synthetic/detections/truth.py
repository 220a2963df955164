"""What happens in view: who is seen when, and the events and counts that follow from it.

Truth is what a careful person could tell from the picture, not what the story intended: an actor that is
tiny, hidden or outside the picture is not there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.synthetic.detections.catalog import MOBILE
from train.synthetic.detections.scene import STEP_S, Actor, Scene, View

MIN_VISIBLE = 0.3
"""Share of an object that must be seen."""
MIN_SIZE = 0.5
"""Of the height from which a detector sees the class clearly."""
DARK = 0.1
"""Brightness below which nothing can be told."""
CAMERA = -1
"""Stands for the camera where an event names an actor."""
STEADY_S = 1.0
"""Stretches shorter than this are not told apart from flicker."""


@dataclass(frozen=True)
class Event:
    """``kind`` (enters, leaves, stops, ...) of actor number ``who``; ``other`` is a second actor. Seconds."""

    kind: str
    who: int
    start: float
    end: float
    other: int | None = None


_TOLD_WHEN_OVER = (
    "leaves", "leaves zone", "is passed", "is taken away", "is put back", "is put down", "jumps onto",
    "sits down", "falls", "lies down", "stands up", "gets up", "tips over",
)  # fmt: skip
_TOLD_AFTER_S = {
    **dict.fromkeys(("stops", "stops in zone", "runs", "runs across zone"), 0.75),
    **dict.fromkeys(("walks on", "drives off", "backs up", "is moved"), 0.5),
    "overtakes": 1.0,
}
"""Movement shows only by comparison with the second before, and so does standing still."""


def told_at(event: Event) -> float:
    """When it can be told: a departure and a theft when they are over, a movement shortly after it begins,
    all else at once.
    """
    if event.kind in _TOLD_WHEN_OVER:
        return event.end
    return event.start + _TOLD_AFTER_S.get(event.kind, 0.0)


@dataclass(frozen=True)
class Span:
    """A stretch of time in seconds."""

    start: float
    end: float


def seen(scene: Scene, view: View) -> NDArray[np.bool_]:
    """Whether each actor can be seen at each moment [T, N], short gaps closed and short flashes removed."""
    clear = np.array([actor.kind.full_px for actor in scene.actors]) * MIN_SIZE
    raw = (view.visible >= MIN_VISIBLE) & (view.pixels >= clear)
    steady = round(STEADY_S / STEP_S)
    clean = np.stack([without_short(raw[:, n], steady) for n in range(raw.shape[1])], axis=1)
    dark = dark_moments(scene)
    for i in np.flatnonzero(dark):
        # In the dark nobody can tell who comes and goes: what was there last is taken to be there.
        clean[i] = clean[i - 1] if i else False
    return clean


def dark_moments(scene: Scene) -> NDArray[np.bool_]:
    """Whether it is too dark to see anything, at each moment [T]."""
    return np.asarray(scene.brightness.at(scene.times)[:, 0] < DARK)


def spans(flags: NDArray[np.bool_], times: NDArray[np.float64]) -> list[Span]:
    """The stretches in which ``flags`` [T] hold. A change lies halfway between the moments around it: at a
    frame that shows it already it has happened.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    bounds = np.concatenate([times[:1], (times[:-1] + times[1:]) / 2, times[-1:]])
    return [Span(float(bounds[a]), float(bounds[b])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def presence(scene: Scene, view: View, in_view: NDArray[np.bool_]) -> list[Event]:
    """Who comes into the picture and who leaves it.

    Who is there at the start does not come in. What is only hidden for a while, a bench behind a truck,
    stays.
    """
    events = []
    for n, actor in enumerate(scene.actors):
        if actor.kind.name not in MOBILE or not moves(actor):
            continue
        for span in spans(in_view[:, n], view.times):
            if span.start > view.times[0] and not hidden_before(view, n, span.start + STEP_S / 2):
                events.append(Event("enters", n, span.start, span.start + 1.0))
            if span.end < view.times[-1] and not hidden_before(view, n, span.end + STEP_S * 1.5):
                events.append(Event("leaves", n, max(span.start, span.end - 1.0), span.end))
    return events


def happens(scene: Scene, view: View, in_view: NDArray[np.bool_]) -> list[Event]:
    """Everything that can be seen to happen, in the order of its start: presence and the actors' acts."""
    numbers = {actor.name: n for n, actor in enumerate(scene.actors)}
    events = presence(scene, view, in_view)
    light = in_view & ~dark_moments(scene)[:, None]
    for n, actor in enumerate(scene.actors):
        for act in actor.acts:
            start = _first(light[:, n], view.times, act.start, act.end + 1.0)
            if start is not None and act.end < scene.duration - 0.5:
                end = max(act.end, start + STEP_S)
                events.append(Event(act.kind, n, start, end, numbers.get(act.other)))
    for act in scene.acts:
        events.append(Event(act.kind, CAMERA, act.start, act.end))
    return sorted(events, key=lambda event: (event.start, event.end))


def moves(actor: Actor) -> bool:
    """Whether it changes its place, or comes and goes, as far as the story says."""
    return actor.place.varies or actor.there.varies


def hidden_before(view: View, n: int, time: float) -> bool:
    """Whether the object was in the picture all the same just before (or from) ``time``, only covered."""
    i = int(np.argmin(np.abs(view.times - time)))
    before = max(0, i - 1)
    box = view.boxes[before, n]
    inside = bool((box[2:] - box[:2]).min() > 0) and bool(box[0] > 0.01 and box[2] < 0.99 and box[3] < 0.99)
    return inside and bool(view.visible[before, n] < MIN_VISIBLE) and bool(view.pixels[before, n] > 0)


def _first(flags: NDArray[np.bool_], times: NDArray[np.float64], start: float, end: float) -> float | None:
    """When ``flags`` hold first from ``start`` to ``end``: ``start`` itself if they held just before."""
    if flags[(times >= start - 0.5) & (times <= start + STEP_S)].any():
        return start
    later = times[flags & (times >= start) & (times <= end)]
    return float(later[0]) - STEP_S / 2 if len(later) else None


def counts(
    actors: Sequence[Actor], in_view: NDArray[np.bool_], wanted: Callable[[Actor], bool]
) -> NDArray[np.int64]:
    """How many of the wanted actors are seen at each moment [T]."""
    chosen = [n for n, actor in enumerate(actors) if wanted(actor)]
    return np.asarray(in_view[:, chosen].sum(axis=1))


def changes(
    number: NDArray[np.int64], times: NDArray[np.float64], hold_s: float = 1.5
) -> list[tuple[float, int, int]]:
    """(time, before, after) of every change of a count that lasts for ``hold_s``; see :func:`spans`."""
    steady = round(hold_s / STEP_S)
    found = []
    current = int(number[0])
    for i in range(1, len(number)):
        value = int(number[i])
        if value != current and (number[i : i + steady] == value).all():
            found.append((float(times[i - 1] + times[i]) / 2, current, value))
            current = value
    return found


def without_short(flags: NDArray[np.bool_], steady: int) -> NDArray[np.bool_]:
    """Close gaps, then remove stretches, shorter than ``steady`` moments, except at the ends."""
    for value in (False, True):
        flags = flags.copy()
        edges = np.flatnonzero(np.diff(flags.astype(np.int8))) + 1
        bounds = [0, *edges.tolist(), len(flags)]
        for a, b in itertools.pairwise(bounds):
            if a > 0 and b < len(flags) and flags[a] == value and b - a < steady:
                flags[a:b] = not value
    return flags
