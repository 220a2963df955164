"""How a detector errs, in numbers that can be read off real clips and simulated ones alike.

Nobody has marked what is on the real clips. Identity over time comes from the tracker with a long memory, and
errors are told by their traces: a track that is seen once alone, that stands still with a low score, that
changes its class. The same is measured of simulated scenes; the noise is fitted when both columns look alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from train.data.features import read_frames
from train.models.compact.slots import SlotEncoder
from train.models.perception.detections import Detections
from train.models.perception.nanodet import CLASSES, SIZE
from train.models.perception.tracker import Slots, TrackerConfig, track
from train.synthetic.detections.detector import Noise, detect
from train.synthetic.detections.scene import STEP_S
from train.synthetic.detections.stories import tell

FPS = 1 / STEP_S
MEMORY_S = 3.0
"""An object that is not seen for longer is a new one."""
STILL = 0.06
"""Shares of its own size that the centre of a thing at rest moves from frame to frame, at most."""
GROUPS = {"person": ("person",), "vehicle": ("car", "truck", "bus", "motorcycle", "bicycle"), "other": ()}
SIZES = (0, 25, 50, 100, 200, 1000)
"""Limits of the height of a box, in pixels of the detector's input."""
EDGE = 0.03


@dataclass(frozen=True)
class Footage:
    """Detections of a clip [T, K, ...] at ``FPS``.

    ``height_px``: height of the content in the detector's input.
    """

    detections: Detections
    height_px: float


@dataclass
class Track:
    """What was seen of one object: frames, boxes [n, 4], best scores [n] and classes [n]."""

    frames: list[int]
    boxes: list[NDArray[np.float32]]
    scores: list[float]
    kinds: list[int]

    @property
    def kind(self) -> int:
        """The class it had most often."""
        return int(np.bincount(self.kinds).argmax())

    @property
    def group(self) -> str:
        name = CLASSES[self.kind]
        return next((group for group, names in GROUPS.items() if name in names), "other")


def real(detector: Path, clip: Path) -> Footage:
    """Run the detector over a video. Raises what :func:`train.data.features.read_frames` does."""
    encoder = SlotEncoder(detector)
    found: list[Detections] = []
    height = float(SIZE)
    for _, frame in read_frames(clip, FPS, (SIZE, SIZE)):
        seen, content = encoder.detect(frame)
        found.append(seen)
        height = SIZE * float(content[0, 3] - content[0, 1])
    return Footage(Detections(*(torch.cat(parts) for parts in zip(*found, strict=True))), height)


def simulated(count: int, seed: int, noise: Noise | None = None) -> Iterator[Footage]:
    """Draw scenes of fixed cameras."""
    for index in range(count):
        rng = np.random.default_rng([77, seed, index])
        family, scene = tell(rng)
        if family in ("walk", "drive"):
            continue
        times = np.arange(1, int(scene.duration * FPS) + 1) / FPS
        seen = detect(rng, scene, times, TrackerConfig().slots, noise)
        yield Footage(seen, SIZE / max(scene.camera.aspect, 1.0))


def tracks(clip: Footage) -> list[Track]:
    """Follow every object of a clip."""
    config = TrackerConfig(keep_frames=round(MEMORY_S * FPS))
    slots = Slots.empty(1, config.slots, len(CLASSES))
    open_: dict[int, Track] = {}
    done: list[Track] = []
    with torch.no_grad():
        for t in range(len(clip.detections.boxes)):
            seen = Detections(*(part[t : t + 1] for part in clip.detections))
            # Scores of the frame itself: the slots hold averages.
            slots = track(seen, slots, config)
            for k in range(config.slots):
                if slots.age[0, k] == 0 and k in open_:
                    done.append(open_.pop(k))
                if slots.taken[0, k] == 0 or slots.missing[0, k] > 0:
                    continue
                box = slots.boxes[0, k]
                place = int((seen.boxes[0] - box).abs().sum(-1).argmin())
                entry = open_.setdefault(k, Track([], [], [], []))
                entry.frames.append(t)
                entry.boxes.append(box.numpy())
                entry.scores.append(float(seen.best[0, place]))
                entry.kinds.append(int(seen.scores[0, place].argmax()))
    return [*done, *open_.values()]


def measure(clips: Iterable[Footage]) -> dict[str, float]:
    """Statistics by name; not a number where there is too little to tell."""
    seconds, scenes = 0.0, 0
    heights: list[tuple[str, float, float]] = []
    every: list[Track] = []
    for clip in clips:
        seconds += len(clip.detections.boxes) / FPS
        scenes += 1
        for one in tracks(clip):
            every.append(one)
            for box, score in zip(one.boxes, one.scores, strict=True):
                heights.append((one.group, float(box[3] - box[1]) * clip.height_px, score))
    found = {"scenes": float(scenes), "seconds": seconds, "tracks a minute": 60 * len(every) / seconds}
    for group in GROUPS:
        for low, high in itertools.pairwise(SIZES):
            scores = [s for g, h, s in heights if g == group and low <= h < high]
            name = f"score of {group}, {low} to {high} px"
            found[f"{name}, n"] = float(len(scores))
            if len(scores) >= 20:
                found |= {f"{name}, p{q}": float(np.percentile(scores, q)) for q in (10, 50, 90)}
    return found | _noise(every, scenes)


def _noise(every: Sequence[Track], scenes: int) -> dict[str, float]:
    score_steps: list[float] = []
    box_steps: list[float] = []
    walk_steps: list[float] = []
    misses: list[int] = []
    seen_s = 0.0
    changed: dict[bool, list[bool]] = {True: [], False: []}
    for one in every:
        boxes = np.array(one.boxes)
        size = np.sqrt(((boxes[:, 2:] - boxes[:, :2]).prod(-1)).clip(1e-8))
        gaps = np.diff(one.frames)
        together = gaps == 1
        if len(one.frames) >= 4:
            misses += [int(gap) - 1 for gap in gaps if gap > 1]
            seen_s += len(one.frames) / FPS
            score_steps += list(np.diff(one.scores)[together])
            centre = (boxes[:, :2] + boxes[:, 2:]) / 2
            moved = np.linalg.norm(np.diff(centre, axis=0), axis=-1) / size[1:]
            at_rest = together & (moved < STILL)
            sides = np.tile(boxes[1:, 2:] - boxes[1:, :2], (1, 2))
            box_steps += list((np.diff(boxes, axis=0) / sides.clip(1e-4))[at_rest].ravel())
            if one.group == "person":
                sizes = np.log((boxes[:, 2:] - boxes[:, :2]).clip(1e-4))
                walk_steps += list(np.diff(sizes, axis=0)[together & (moved >= STILL)].ravel())
            x1, y1, x2, y2 = boxes[0]
            border = bool(min(x1, y1, 1 - x2, 1 - y2) < EDGE)
            changed[border].append(one.kinds[0] != one.kind)
    lone = [one for one in every if len(one.frames) == 1]
    weak = [
        one for one in every if len(one.frames) >= 8 and np.median(one.scores) < 0.42 and _spread(one) < 0.3
    ]
    return {
        "score jitter": _deviation(score_steps),
        "box jitter at rest": _deviation(box_steps),
        "misses a second seen": len(misses) / max(seen_s, 1e-9),
        "length of a miss, mean s": float(np.mean(misses)) / FPS if misses else np.nan,
        "misses longer than 1 s, share": float(np.mean(np.array(misses) > FPS)) if misses else np.nan,
        "box jitter of people who move": _deviation(walk_steps),
        "tracks seen in one frame alone, share": len(lone) / max(len(every), 1),
        "weak still tracks a scene": len(weak) / max(scenes, 1),
        "first seen as another class at a border, share": _mean(changed[True]),
        "first seen as another class elsewhere, share": _mean(changed[False]),
    }


def _deviation(steps: Sequence[float]) -> float:
    """Spread of one value from its difference to the next; medians, so that real changes do not count."""
    return float(np.median(np.abs(steps)) * 1.4826 / np.sqrt(2)) if steps else np.nan


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else np.nan


def _spread(one: Track) -> float:
    """How far it got from where it was, in its own sizes."""
    boxes = np.array(one.boxes)
    size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(-1).clip(1e-8)).mean()
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return float(np.ptp(centre, axis=0).max() / size)
