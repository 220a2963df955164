"""StreamPro-F1 of a model in training: greedy rollouts, which decide as the runtime does, scored by the
benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.metric.annotations import Annotation, Prediction
from benchmarks.metric.judges import ExactJudge, Judge
from benchmarks.metric.progress import Progress
from benchmarks.metric.score import Report, score
from train.models.base import StreamModel
from train.rollout.rollout import rollout
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts


def streampro_f1(
    model: StreamModel,
    constraints: TokenConstraints,
    prompts: Prompts,
    *,
    judge: Judge | None = None,
    questions: int = 0,
    rows: int = 64,
) -> Report:
    """Score of greedy trajectories at ``constraints.threshold``, without bootstrap intervals.

    ``questions``: how many to ask, spread evenly over the file, 0 for all. ``judge``: the exact one when
    None. Raises an EdgeError when the judge cannot judge.
    """
    chosen = spread(prompts.annotations, questions)
    return score(
        chosen,
        predict(model, constraints, prompts, chosen, rows=rows, progress="validation"),
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
    progress: str = "",
) -> list[Prediction]:
    """What the model says to each question, ``rows`` of them at a time. Leaves the model in its mode.

    ``progress``: what the bar that people see is called; none when empty.
    """
    training = model.training
    model.eval()
    ordered = sorted(annotations, key=lambda a: a.duration)  # clips of like length step together
    found = []
    with Progress(len(ordered), progress, unit="question", shown=bool(progress)) as bar:
        for i in range(0, len(ordered), rows):
            batch = [prompts.prompt(annotation) for annotation in ordered[i : i + rows]]
            found += [group[0] for group in rollout(model, constraints, batch)]
            bar.advance(len(batch))
    model.train(training)
    return [Prediction(t.prompt.annotation.id, t.responses) for t in found]


def spread(annotations: Sequence[Annotation], count: int) -> list[Annotation]:
    """``count`` of them at even distances, whatever their order; all when ``count`` is 0 or larger."""
    if not 0 < count < len(annotations):
        return list(annotations)
    return [annotations[i * len(annotations) // count] for i in range(count)]


def points(report: Report) -> dict[str, float]:
    """``W-Avg`` and each task's F1 in points, 0 to 100."""
    total = {} if report.weighted is None else {"W-Avg": 100 * report.weighted.f1}
    return total | {task: 100 * summary.f1 for task, summary in report.tasks.items()}
