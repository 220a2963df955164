"""The training targets as predictions: the score that a model reaches which learns them perfectly."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.metric.annotations import Annotation, Prediction, Response
from train.data.timeline import build_timeline
from train.rollout.trajectory import Prompts


def play_back(prompts: Prompts, annotations: Sequence[Annotation]) -> list[Prediction]:
    """What the targets of training say to each question, at the ends of their timesteps.

    It falls short of 100 where a target is due before its answer can be known, or after the last frame.
    """
    found = []
    for annotation in annotations:
        prompt = prompts.prompt(annotation)
        timeline = build_timeline(annotation, prompt.timesteps, prompt.fps)
        responses = tuple(
            Response((prompt.timesteps[turn] + 1) / prompt.fps, text)
            for turn, text in sorted(timeline.responses.items())
        )
        found.append(Prediction(annotation.id, responses))
    return found
