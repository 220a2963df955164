"""One annotated question as a timeline: which timestep is silent and which one says what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.streampro.annotations import Annotation
from train.data.targets import target_time


@dataclass(frozen=True)
class Timeline:
    """The ideal trajectory for one question over the timesteps of one video.

    ``timesteps``: indices of the timesteps that have a frame, rising. ``query_turn``: position in
    ``timesteps`` of the first turn in force, or their number when the video ends before the query.
    ``responses``: position in ``timesteps`` -> text. ``lost``: number of answers that would be due after the
    last frame and are not asked for.
    """

    timesteps: tuple[int, ...]
    task: str
    query: str
    query_turn: int
    responses: dict[int, str]
    lost: int


def build_timeline(annotation: Annotation, timesteps: Sequence[int], fps: float) -> Timeline:
    """``timesteps`` as :class:`edge_runtime.sampling.TimestepSampler` numbers them, rising.

    An answer goes to the first timestep present at or after its target time. Two answers due at the same
    timestep become one response, their texts joined with a space in order of their start.
    """
    ends = [index + 1 for index in timesteps]  # in timesteps, so that comparisons are exact
    query_turn = _first(ends, annotation.query.time * fps)
    responses: dict[int, str] = {}
    lost = 0
    for answer in sorted(annotation.answers, key=lambda a: (a.start, a.end)):
        time = target_time(annotation.task, annotation.query.time, answer, fps)
        turn = _first(ends, time * fps)
        if turn == len(ends):
            lost += 1
        else:
            responses[turn] = f"{responses[turn]} {answer.text}" if turn in responses else answer.text
    return Timeline(tuple(timesteps), annotation.task, annotation.query.text, query_turn, responses, lost)


def _first(ends: Sequence[int], time: float) -> int:
    """Position of the first end that is not before ``time``; the number of ends when there is none."""
    return next((i for i, end in enumerate(ends) if end >= time - 1e-6), len(ends))
