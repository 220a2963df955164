"""Zones of a camera's frame: random polygons, and what happens in them.

Something is in a zone when the middle of its box's lower edge is: where it stands, as far as a box shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.video.framing import Polygon
from edge_runtime.video.zones import contains, occupancy
from train.models.perception.zones import GRID, ZONES
from train.synthetic.detections import truth
from train.synthetic.detections.camera import Floats
from train.synthetic.detections.catalog import MOBILE
from train.synthetic.detections.facts import Facts
from train.synthetic.detections.scene import STEP_S
from train.synthetic.detections.truth import Event

FAMILIES = ("outdoors", "indoors", "tabletop", "still")
"""Stories whose camera stands still."""
SHARE, WITH_RUNNERS = 0.56, 0.9
"""Of their clips that have zones: half of all clips, and nearly all in which somebody runs, which is rare."""
COVERS = (0.02, 0.6)
"""Least and most share of the frame that a zone covers."""
STEADY_S = 0.75
"""Stays and absences shorter than this are not told apart from flicker."""
UNSURE = (0.2, 0.8)
"""Values of the grid at an object's foot from which it is unclear whether it is in the zone."""
UNSURE_S = 1.5
_NUMBERS = (0.4, 0.3, 0.15, 0.15)


@dataclass(frozen=True)
class Zones:
    """``polygons``: one for each zone a model knows, () where the camera has none.

    ``inside`` [Z, T, N]: whether each actor is seen in it. ``unsure`` [Z, N]: it stays at the edge for so
    long that what is right to say is a matter of taste.
    """

    polygons: tuple[Polygon, ...]
    inside: NDArray[np.bool_]
    unsure: NDArray[np.bool_]

    @classmethod
    def of(cls, polygons: tuple[Polygon, ...], facts: Facts) -> Zones:
        """The zones ``polygons`` of a story, and who is in them."""
        boxes = facts.view.boxes  # [T, N, 4]
        x, y = (boxes[..., 0] + boxes[..., 2]) / 2, boxes[..., 3]
        grids = occupancy(polygons, ZONES, GRID)[0]
        inside, unsure = [], []
        for polygon, grid in zip(polygons, grids, strict=True):
            there = contains(polygon, x, y) & facts.in_view
            inside.append(_steady(there, STEADY_S))
            value = grid[_cell(y), _cell(x)]
            edge = (value > UNSURE[0]) & (value < UNSURE[1]) & facts.in_view
            unsure.append(_steady(edge, UNSURE_S).any(axis=0))
        return cls(polygons, np.stack(inside), np.stack(unsure))

    @property
    def numbers(self) -> list[int]:
        """Those that are there, counted from 0."""
        return [number for number, polygon in enumerate(self.polygons) if polygon]

    def grid(self) -> NDArray[np.float32]:
        """What a model reads of them: [Z, G, G]."""
        return occupancy(self.polygons, ZONES, GRID)[0]

    def events(self, number: int, facts: Facts) -> list[Event]:
        """Who enters and leaves a zone, runs across it and stops in it, in the order of the start."""
        found = []
        times = facts.view.times
        for n, actor in enumerate(facts.scene.actors):
            inside = self.inside[number, :, n]
            if actor.kind.name not in MOBILE or not truth.moves(actor):
                continue
            for span in truth.spans(inside, times):
                if span.start > times[0] and not truth.hidden_before(facts.view, n, span.start + STEP_S / 2):
                    found.append(Event("enters zone", n, span.start, span.start + 1.0))
                if span.end < times[-1] and not truth.hidden_before(facts.view, n, span.end + STEP_S * 1.5):
                    found.append(Event("leaves zone", n, max(span.start, span.end - 1.0), span.end))
            for kind, told in (("runs", "runs across zone"), ("stops", "stops in zone")):
                for event in facts.events:
                    during = inside & (times >= event.start) & (times <= event.end)
                    if event.kind == kind and event.who == n and during.any():
                        start = float(times[during][0])
                        found.append(Event(told, n, start, max(event.end, start + STEP_S)))
        return sorted(found, key=lambda event: (event.start, event.end))


def draw_zones(rng: np.random.Generator, facts: Facts) -> Zones | None:
    """Zones of a story's camera, under random numbers; None for a camera that has none."""
    runs = any(event.kind == "runs" for event in facts.events)
    if facts.family not in FAMILIES or rng.random() >= (WITH_RUNNERS if runs else SHARE):
        return None
    numbers = rng.permutation(ZONES)[: 1 + int(rng.choice(len(_NUMBERS), p=_NUMBERS))]
    polygons: list[Polygon] = [()] * ZONES
    taken = np.zeros((GRID, GRID), np.float32)
    for number in numbers:
        for _ in range(20):
            polygon = _polygon(rng, facts)
            cells = occupancy([polygon], 1, GRID)[0, 0]
            shared = np.minimum(cells, taken).sum() / max(float(cells.sum()), 1e-6)
            if COVERS[0] <= cells.mean() <= COVERS[1] and shared < 0.3:
                polygons[number] = polygon
                taken = np.maximum(taken, cells)
                break
    return Zones.of(tuple(polygons), facts) if any(polygons) else None


def _polygon(rng: np.random.Generator, facts: Facts) -> Polygon:
    """A rectangle of the frame, one on the ground as the camera sees it, or any quadrilateral."""
    u, v = _middle(rng, facts)
    width, height = rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.7)
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    draw = rng.random()
    if draw < 0.4:
        places = np.array([u, v]) + corners * [width / 2, height / 2]
    elif draw < 0.75:
        try:
            ground = np.array(facts.scene.camera.ground(u, v))
        except ValueError:
            return ()
        reach = float(np.hypot(*ground)) + 0.5
        turn = rng.uniform(0, np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        sides = reach * rng.uniform(0.2, 1.3, 2)
        flat = ground + (corners * sides / 2) @ rotation.T
        seen, depth = facts.scene.camera.project(np.concatenate([flat, np.zeros((4, 1))], axis=1))
        if depth.min() < 0.3:
            return ()
        places = seen
    else:
        places = np.array([u, v]) + corners * rng.uniform(0.3, 1.0, (4, 2)) * [width / 2, height / 2]
    return tuple((float(x), float(y)) for x, y in places)


def _middle(rng: np.random.Generator, facts: Facts) -> tuple[float, float]:
    """The middle of a zone: mostly where somebody passes, else anywhere below the upper quarter.

    Few people run, so those who do come first.
    """
    movers = [n for n, a in enumerate(facts.scene.actors) if a.kind.name in MOBILE and truth.moves(a)]
    runners = sorted({event.who for event in facts.events if event.kind == "runs"})
    movers = runners if runners and rng.random() < 0.75 else movers
    seen = [(t, n) for n in movers for t in np.flatnonzero(facts.in_view[:, n])]
    if seen and rng.random() < 0.6:
        t, n = seen[int(rng.integers(len(seen)))]
        x1, _, x2, y2 = facts.view.boxes[t, n]
        x, y = rng.normal(0, 0.08, 2)
        return float(np.clip((x1 + x2) / 2 + x, 0, 1)), float(np.clip(y2 + y, 0, 1))
    return float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.25, 0.95))


def _steady(flags: NDArray[np.bool_], shortest_s: float) -> NDArray[np.bool_]:
    moments = round(shortest_s / STEP_S)
    return np.stack([truth.without_short(flags[:, n], moments) for n in range(flags.shape[1])], axis=1)


def _cell(places: Floats) -> NDArray[np.int64]:
    return np.clip((places * GRID).astype(np.int64), 0, GRID - 1)
