"""StreamPro-F1 of a model in training: greedy rollouts, which decide as the runtime does, scored by the
benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.metric.annotations import Annotation, Prediction
from benchmarks.metric.judges import ExactJudge, Judge
from benchmarks.metric.progress import Progress
from benchmarks.metric.score import Report, score
from train.models.base import StreamModel
from train.rollout.rollout import rollout
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts, Trajectory

T = TypeVar("T")


def streampro_f1(
    model: StreamModel,
    constraints: TokenConstraints,
    prompts: Prompts,
    *,
    judge: Judge | None = None,
    questions: int = 0,
    rows: int = 64,
    together: int = 1,
) -> Report:
    """Score of greedy trajectories at ``constraints.threshold``, without bootstrap intervals.

    ``questions``: how many to ask, spread evenly over the file, 0 for all; about as many with
    ``together``, for which see :func:`predict`. ``judge``: the exact one when
    None. Raises an EdgeError when the judge cannot judge.
    """
    sessions = grouped(prompts.annotations, together)
    chosen = [question for session in spread(sessions, -(-questions // together)) for question in session]
    return score(
        chosen,
        predict(model, constraints, prompts, chosen, rows=rows, together=together, progress="validation"),
        judge or ExactJudge(),
        bootstrap=0,
    )


def predict(
    model: StreamModel,
    constraints: TokenConstraints,
    prompts: Prompts,
    annotations: Sequence[Annotation],
    *,
    rows: int = 64,
    together: int = 1,
    progress: str = "",
) -> list[Prediction]:
    """What the model says to each question, ``rows`` sessions at a time. Leaves the model in its mode.

    ``together``: most questions about one clip that share a session; the stream format must number them.
    ``progress``: what the bar that people see is called; none when empty.
    """
    training = model.training
    model.eval()
    sessions = grouped(annotations, together)
    sessions.sort(key=lambda session: session[0].duration)  # clips of like length step together
    found: list[Trajectory] = []
    with Progress(len(annotations), progress, unit="question", shown=bool(progress)) as bar:
        for i in range(0, len(sessions), rows):
            batch = [prompts.prompt_together(session) for session in sessions[i : i + rows]]
            found += [group[0] for group in rollout(model, constraints, batch)]
            bar.advance(sum(len(prompt.queries) for prompt in batch))
    model.train(training)
    return [
        Prediction(asked.annotation.id, trajectory.answers(number))
        for trajectory in found
        for number, asked in enumerate(trajectory.prompt.queries, start=1)
    ]


def grouped(annotations: Sequence[Annotation], most: int) -> list[list[Annotation]]:
    """Questions about one clip in groups of up to ``most``, in the order given."""
    open_group: dict[Path, list[Annotation]] = {}
    groups: list[list[Annotation]] = []
    for annotation in annotations:
        group = open_group.get(annotation.video_path)
        if group is None or len(group) == most:
            group = open_group[annotation.video_path] = []
            groups.append(group)
        group.append(annotation)
    return groups


def spread(items: Sequence[T], count: int) -> list[T]:
    """``count`` of them at even distances, whatever their order; all when ``count`` is 0 or larger."""
    if not 0 < count < len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def points(report: Report) -> dict[str, float]:
    """``W-Avg`` and each task's F1 in points, 0 to 100."""
    total = {} if report.weighted is None else {"W-Avg": 100 * report.weighted.f1}
    return total | {task: 100 * summary.f1 for task, summary in report.tasks.items()}
