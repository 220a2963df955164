"""A checkpoint is asked questions, as they are or at several thresholds, and what it says becomes figures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.metric.annotations import Annotation, Prediction
from benchmarks.metric.delivery import delivered
from benchmarks.metric.false_alarms import false_alarms
from benchmarks.metric.judges import ExactJudge, Judge
from benchmarks.metric.score import score
from train.data.dataset import Source
from train.data.encode import turn_encoder
from train.data.features import FeatureCache
from train.models.checkpoint import Checkpoint
from train.rollout.evaluation import grouped, points, predict
from train.rollout.play_back import play_back
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts


class Examination:
    """``files`` of annotations, put to one checkpoint by greedy rollouts, which decide as the runtime does.

    ``cache``: folder of vision features; missing ones are computed. Raises FormatError, FeatureError, and
    ConfigError where nothing is asked.
    """

    def __init__(self, checkpoint: Checkpoint, files: Sequence[Path], cache: Path) -> None:
        self._stream_format, self._tokenizer = checkpoint.stream_format, checkpoint.tokenizer
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = checkpoint.model.to(self._device).float().eval()
        features = FeatureCache(cache, self._stream_format.fps, vision=self._model.vision)
        self._prompts = Prompts([Source(path) for path in files], features, shuffle=False)

    @property
    def annotations(self) -> list[Annotation]:
        return self._prompts.annotations

    def ask(
        self, questions: Sequence[Annotation], threshold: float, together: int | None = None
    ) -> list[Prediction]:
        """What reaches a person when the model speaks from ``threshold`` on, under the default policy.

        ``together``: most questions about one clip in one session, by default as many as the checkpoint was
        trained with.
        """
        constraints = TokenConstraints(
            turn_encoder(self._stream_format, self._tokenizer),
            self._tokenizer,
            self._model.embedding.num_embeddings,
            threshold=threshold,
        )
        with _precision(self._device):
            said = predict(
                self._model,
                constraints,
                self._prompts,
                questions,
                together=together or self._stream_format.queries_per_session,
                progress=f"threshold {threshold:g}",
            )
        return [delivered(prediction) for prediction in said]

    def play_back(self, questions: Sequence[Annotation]) -> list[Prediction]:
        """What the targets of training say to ``questions``."""
        return play_back(self._prompts, questions)


def drawn(annotations: list[Annotation], count: int, seed: int, together: int = 1) -> list[Annotation]:
    """``count`` of the questions, 0 for all, in file order.

    ``together``: questions about one clip that share a session are drawn as one, so about ``count`` come.
    """
    sessions, fewer = grouped(annotations, together), -(-count // together)
    if not 0 < fewer < len(sessions):
        return annotations
    chosen = np.random.default_rng(seed).permutation(len(sessions))[:fewer]
    return [question for i in sorted(chosen) for question in sessions[i]]


def _precision(device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if device.type == "cuda" else nullcontext()


def figures(
    questions: list[Annotation],
    said: list[Prediction],
    judge: Judge | None = None,
    *,
    bootstrap: int = 0,
) -> dict[str, Any]:
    """StreamPro-F1 in points on questions with answers, the rate of speech on those without.

    ``bootstrap``: draws for 95 % intervals of W-Avg and of the rate, 0 for none.
    """
    by_id = {prediction.id: prediction for prediction in said}
    answered = [question for question in questions if question.answers]
    found: dict[str, Any] = {"questions": len(questions)}
    if answered:
        mine = [by_id[question.id] for question in answered]
        report = score(answered, mine, judge or ExactJudge(), bootstrap=bootstrap)
        found["f1"] = points(report)
        found["responses_per_answer"] = sum(len(p.responses) for p in mine) / sum(
            len(a.answers) for a in answered
        )
        if report.weighted is not None:
            if bootstrap:
                found["interval"] = [100 * bound for bound in report.weighted.intervals["f1"]]
            found["parts"] = {
                name: 100 * getattr(report.weighted, name)
                for name in ("time", "accuracy", "precision", "recall")
            }
    if len(answered) < len(questions):
        found["false_alarms"] = asdict(false_alarms(questions, said, bootstrap=bootstrap))["overall"]
    return found
