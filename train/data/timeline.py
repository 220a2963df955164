"""Annotated questions as a timeline: which timestep is silent and which one says what."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.metric.annotations import Annotation
from edge_runtime.bundle.question_numbers import joined
from train.data.targets import target_time


@dataclass(frozen=True)
class Timeline:
    """The ideal trajectory over the timesteps of one video for the questions that are asked of it.

    ``timesteps``: indices of the timesteps that have a frame, rising. ``queries``: (position in ``timesteps``
    of the first turn in force, text), in order; the position is the number of timesteps when the video ends
    before the query. ``numbers``: of the queries in their session, in the same order. ``responses``: position
    in ``timesteps`` -> text. ``grounding``: positions of responses that hold time spans. ``lost``: number of
    answers that would be due after the last frame and are not asked for.
    ``supervised_from``: turns before it are there to be seen, not to be learned.
    """

    timesteps: tuple[int, ...]
    task: str
    queries: tuple[tuple[int, str], ...]
    responses: dict[int, str]
    lost: int
    grounding: frozenset[int] = frozenset()
    supervised_from: int = 0
    numbers: tuple[int, ...] = (1,)

    @property
    def query_turn(self) -> int:
        """Position of the first turn in which a query is in force."""
        return self.queries[0][0]


def build_timeline(annotation: Annotation, timesteps: Sequence[int], fps: float) -> Timeline:
    """``timesteps`` as :class:`edge_runtime.video.sampling.TimestepSampler` numbers them, rising.

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
    return Timeline(
        tuple(timesteps),
        annotation.task,
        ((query_turn, annotation.query.text),),
        responses,
        lost,
        frozenset(responses) if annotation.task == "TG" else frozenset(),
    )


MIXED = "mixed"
"""Task of a trajectory whose questions are of different tasks."""


def merge(timelines: Sequence[Timeline], numbers: Sequence[int]) -> Timeline:
    """One timeline of several questions about the same timesteps, as a session with several queries has it.

    ``numbers``: rising, as many as questions; the question asked first gets the first. Answers carry the
    number of their question. Those due at the same turn become one response, in the order of their numbers.
    """
    ordered = sorted(timelines, key=lambda timeline: timeline.query_turn)
    answers: dict[int, dict[int, str]] = {}
    for number, timeline in zip(numbers, ordered, strict=True):
        for turn, text in timeline.responses.items():
            answers.setdefault(turn, {})[number] = text
    tasks = {timeline.task for timeline in ordered}
    return Timeline(
        ordered[0].timesteps,
        tasks.pop() if len(tasks) == 1 else MIXED,
        tuple(query for timeline in ordered for query in timeline.queries),
        {turn: joined(texts) for turn, texts in sorted(answers.items())},
        sum(timeline.lost for timeline in ordered),
        frozenset().union(*(timeline.grounding for timeline in ordered)),
        numbers=tuple(numbers),
    )


def chunks(turns: int, most: int) -> list[int]:
    """First turns of the chunks in which a clip of ``turns`` turns is learned, ``most`` turns each.

    Each chunk after the first repeats the later half of the one before it, which is only to be seen.
    """
    return [0, *range(most // 2, turns - (most - most // 2), most // 2)] if turns > most else [0]


def around(timeline: Timeline, events: Collection[int], most: int, rng: np.random.Generator) -> list[int]:
    """First turn of one chunk of ``most`` turns, in a list, whose later half holds a turn of ``events``.

    As often one at which ``timeline`` responds as one at which only other questions about the clip have an
    answer, as far as there are both. No chunk when nothing happens once the question is asked.
    """
    turns = [turn for turn in sorted(events) if turn >= timeline.query_turn]
    own = [turn for turn in turns if turn in timeline.responses]
    others = [turn for turn in turns if turn not in timeline.responses]
    among = own if own and (not others or rng.random() < 0.5) else others
    if not among:
        return []
    turn = among[int(rng.integers(len(among)))]
    first = turn - most + 1 + int(rng.integers(most // 2))
    return [max(0, min(first, len(timeline.timesteps) - most))]


def cut(timeline: Timeline, first: int, most: int) -> Timeline | None:
    """The chunk of ``most`` turns that begins at turn ``first``; None when there is nothing to learn in it.

    Queries asked before it stand at its beginning, where the runtime's window keeps them.
    """
    end = min(first + most, len(timeline.timesteps))
    start = first + most - most // 2 if first else 0
    asked = [i for i, (turn, _) in enumerate(timeline.queries) if turn < end]
    queries = tuple((max(0, timeline.queries[i][0] - first), timeline.queries[i][1]) for i in asked)
    if not queries or start >= end:
        return None
    return replace(
        timeline,
        timesteps=timeline.timesteps[first:end],
        queries=queries,
        responses={turn - first: t for turn, t in timeline.responses.items() if first <= turn < end},
        grounding=frozenset(turn - first for turn in timeline.grounding if first <= turn < end),
        supervised_from=start - first,
        numbers=tuple(timeline.numbers[i] for i in asked),
    )


def _first(ends: Sequence[int], time: float) -> int:
    """Position of the first end that is not before ``time``; the number of ends when there is none."""
    return next((i for i, end in enumerate(ends) if end >= time - 1e-6), len(ends))
