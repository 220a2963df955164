"""What a decoder should look at and know in every turn of a generated clip.

The truth behind :mod:`train.sft.attention_supervision`: where in the frame the one that a question is
about is to be seen, what it is doing there, and how far the thing that is waited for has come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.annotations import Annotation
from train.data.encode import IGNORE
from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.catalog import sprite_table
from train.synthetic.sprites.scenes.scene import Event
from train.synthetic.sprites.scenes.stage import VERBS, Story
from train.synthetic.sprites.truth import FRAME_SECOND, clip_truth, story_of, under_way

SPRITES = tuple(sprite_table())
NAMES = ("nobody", *dict.fromkeys(key.split("/")[0] for key in SPRITES))
"""Who can be doing something."""
IDLE = ("absent", "still")
DOINGS = (*IDLE, *VERBS, "into", *(key for key in SPRITES if "/" in key))
"""What the one that is asked about can be seen doing, or the state it can be in."""
PHASES = ("to come", "under way", "over")
"""Of the event that is waited for."""

_KEYS = {key: i for i, key in enumerate(SPRITES)}
_NAME = {name: i for i, name in enumerate(NAMES)}
_DOING = {doing: i for i, doing in enumerate(DOINGS)}
_EVERYTHING = ("EU", "TP", "AA")
"""Tasks that may ask without naming anybody."""


@dataclass(frozen=True)
class TurnTruth:
    """By turn [n]: ``region`` of the frame to look at (-1: none); ``doing``, ``name`` and ``phase``,
    indices of DOINGS, NAMES and PHASES (IGNORE: not to be learned).

    ``subject``: who the question names, "" for nobody. ``interval``: turns in which the interval that is
    asked for begins and ends, -1 for one that is not there; None when none is asked for. ``first_event``:
    turns that show the event after which something else is asked for; None when there is no such event.
    """

    subject: str
    region: NDArray[np.int64]
    doing: NDArray[np.int64]
    name: NDArray[np.int64]
    phase: NDArray[np.int64]
    interval: tuple[int, int] | None = None
    first_event: tuple[int, ...] | None = None

    def part(self, first: int, turns: int) -> TurnTruth:
        """Of ``turns`` turns from ``first`` on."""
        some = slice(first, first + turns)
        interval = self.interval
        if interval is not None:
            begin, end = (turn - first if first <= turn < first + turns else -1 for turn in interval)
            interval = begin, end
        event = self.first_event
        if event is not None:
            event = tuple(turn - first for turn in event if first <= turn < first + turns)
        parts = self.region[some], self.doing[some], self.name[some], self.phase[some]
        return TurnTruth(self.subject, *parts, interval, event)


def turn_truth(annotation: Annotation, timesteps: tuple[int, ...], centres: list[float]) -> TurnTruth:
    """Truth of the question ``annotation`` about a clip watched at ``timesteps`` (1 fps).

    ``centres``: pixels at which the regions of one side are centred. Raises RecipeError for a clip that was
    not generated.
    """
    return _clip(annotation.video_path, timesteps, tuple(centres)).truth(annotation)


@lru_cache(maxsize=4096)
def _clip(path: Path, timesteps: tuple[int, ...], centres: tuple[float, ...]) -> _Clip:
    return _Clip(story_of(path), timesteps, list(centres))


@dataclass(frozen=True)
class _Clip:
    story: Story
    timesteps: tuple[int, ...]
    centres: list[float]

    @cached_property
    def _seen(self) -> list[dict[str, int]]:
        """By frame the region of everything in view, by sprite."""
        seen: list[dict[str, int]] = [{} for _ in self.timesteps]
        for frame, region, sprite in clip_truth(self.story, self.timesteps, _KEYS, self.centres).where:
            seen[frame][SPRITES[sprite]] = int(region)
        return seen

    @cached_property
    def _acting(self) -> list[list[Event]]:
        """By frame the events under way."""
        acting: list[list[Event]] = [[] for _ in self.timesteps]
        for frame, event in [*under_way(self.story, self.timesteps), *self._cooking()]:
            acting[frame].append(event)
        return acting

    def _cooking(self) -> Iterator[tuple[int, Event]]:
        for event in self.story.events if self.story.family == "kitchen" else []:
            for frame, timestep in enumerate(self.timesteps):
                if event.start + 0.4 <= timestep + FRAME_SECOND <= event.end + 0.1:
                    yield frame, event

    def truth(self, annotation: Annotation) -> TurnTruth:
        count, query = len(self.timesteps), annotation.query.text
        subject = _subject(query)
        event = next((e for e in self.story.events if e.text in query), None)
        region = np.full(count, -1)
        doing, name, phase = (np.full(count, IGNORE) for _ in range(3))
        if subject and not (annotation.task == "TP" and event):
            for turn in range(count):
                region[turn], doing[turn] = self._of(subject, turn)
        elif annotation.task in _EVERYTHING and self.story.family != "walk":
            for turn in range(count):
                region[turn], doing[turn], name[turn] = self._of_anybody(annotation.task, turn)
        interval = first_event = None
        if annotation.task == "TP" and event:
            first_event = tuple(turn for turn in range(count) if event in self._acting[turn])
        if annotation.task in ("TP", "TG"):
            ends = np.array(self.timesteps) + 1.0
            phase[:] = 0
            if annotation.answers:
                answer = annotation.answers[0]
                start = event.end if annotation.task == "TP" and event else answer.start
                phase[ends > start + 0.4] = 1
                phase[ends > answer.end] = 2
                if annotation.task == "TG":
                    begin, end = (int(np.argmax(ends > t)) for t in (answer.start, answer.end))
                    interval = begin, end
        return TurnTruth(subject, region, doing, name, phase, interval, first_event)

    def _of(self, subject: str, turn: int) -> tuple[int, int]:
        """Region and doing of the one that is asked about."""
        sprite, region = self._place(subject, turn)
        if "/" in sprite:
            return region, _DOING[sprite]
        now = next((event.kind for event in self._acting[turn] if event.subject == subject), "")
        return region, _DOING[now or ("still" if sprite else "absent")]

    def _of_anybody(self, task: str, turn: int) -> tuple[int, int, int]:
        """Region, doing and name of the actor that does something, or of an anomaly."""
        if task == "AA":
            shown = [sprite for sprite in self._seen[turn] if sprite in catalog.ANOMALIES]
            name, doing = (shown[0] if shown else "nobody"), "still"
        else:
            acting = self._acting[turn]
            name, doing = (acting[-1].subject, acting[-1].kind) if acting else ("nobody", "still")
        return self._place(name, turn)[1], _DOING[doing], _NAME[name]

    def _place(self, name: str, turn: int) -> tuple[str, int]:
        """What ``name`` looks like in a turn's frame, and the region it is in; "" and -1 when not in view."""
        for sprite, region in self._seen[turn].items():
            if sprite.split("/")[0] == name:
                return sprite, region
        return "", -1


_LONGEST_FIRST = sorted(map(re.escape, NAMES[1:]), key=len, reverse=True)
_NAMED = re.compile(rf"\bthe ({'|'.join(_LONGEST_FIRST)})\b", re.IGNORECASE)


def _subject(query: str) -> str:
    """Who is named in a question."""
    match = _NAMED.search(query)
    return match.group(1).lower() if match else ""
