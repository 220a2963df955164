"""What can be told in each second of a story, for event supervision (:mod:`train.sft.event_supervision`).

``NAME.events.npy`` beside a clip holds uint8 [T, E]: 1 where the second shows an event of that kind, an event
of something of that class, and how many of a class are there by its end.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data.targets import LATEST_FRAME
from train.models.perception.nanodet import CLASSES
from train.synthetic.detections.facts import COUNT_KINDS, EVENT_KINDS, Facts
from train.synthetic.detections.language import event_kinds
from train.synthetic.detections.truth import told_at
from train.synthetic.detections.zone_questions import ZONE_KINDS

COUNTS = (1, 2, 3)
"""At least so many of a class are there."""
QUESTION_KINDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [kind.name for kind in (*EVENT_KINDS, *ZONE_KINDS)]
        + [*COUNT_KINDS, "enter_colour", "enter_colour_person", "covered", "narrate", "narrate_subject"]
        + ["next", "when_stay", "when_missing", "plan", "in_way", "unknown", "captions"]
    )
)
"""What a question may wait for."""


def label_count() -> int:
    """E: numbers of a second."""
    return len(event_kinds()) + (1 + len(COUNTS)) * len(CLASSES)


def event_labels(facts: Facts) -> NDArray[np.uint8]:
    """Of a story [T, E], T whole seconds."""
    seconds = int(facts.scene.duration)
    kinds = event_kinds()
    labels = np.zeros((seconds, label_count()), np.uint8)
    for event in facts.events:
        second = math.ceil(told_at(event) + LATEST_FRAME) - 1  # the frame that shows it, as in targets.py
        if not 0 <= second < seconds:
            continue
        labels[second, kinds.index(event.kind)] = 1
        if who := facts.kind(event.who):
            labels[second, len(kinds) + CLASSES.index(who)] = 1
    first = len(kinds) + len(CLASSES)
    for second in range(seconds):
        row = facts.in_view[min((second + 1) * 4, len(facts.in_view) - 1)]
        there = np.zeros(len(CLASSES), np.int64)
        for n, actor in enumerate(facts.scene.actors):
            there[actor.kind.number] += int(row[n])
        for i, least in enumerate(COUNTS):
            labels[second, first + i * len(CLASSES) : first + (i + 1) * len(CLASSES)] = there >= least
    return labels


def labels_beside(clip: Path) -> Path:
    """Where the labels of a clip lie."""
    return clip.with_suffix(".events.npy")
