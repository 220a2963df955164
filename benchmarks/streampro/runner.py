"""A model watches the clips of a benchmark and answers its questions.

Each clip is decoded once, and its frames become visual tokens once; then every question on it is answered
by a session of its own, fed with those tokens. All threads share one model; decoding and inference release
the interpreter lock.

Beside the format's keys a prediction holds what the page of `plot` draws: ``score``, the probability of
speaking, with each response, and ``scores``, ``[time, score]`` of every timestep from the query on. It holds
what a person would have received: the runtime's default policy withholds the same words said again at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.annotations import Annotation, Prediction, Response
from benchmarks.metric.delivery import delivered
from benchmarks.streampro.clip_pool import ClipPool
from benchmarks.streampro.clips import timestep_frames
from edge_runtime import Model

VisualTokens = NDArray[np.float32]

SCORE_DIGITS = 4
"""Decimals of a written score: enough for any plot, and a clip's scores stay a short line."""


class Runner(ClipPool):
    """Answers questions with one model. ``threshold``: score from which it speaks, None for its own."""

    def __init__(self, model: Model, *, threshold: float | None = None, workers: int = 1) -> None:
        super().__init__(workers)
        self._model = model
        self._stream_format = model.stream_format
        self._threshold = threshold

    def answer_clip(
        self, clip: Path, questions: Sequence[Annotation]
    ) -> Iterator[tuple[Annotation, Prediction]]:
        """Each question on one clip with its prediction, in order."""
        tokens: list[tuple[int, VisualTokens]] = []
        vision = self._model.open_vision()
        for index, frame in timestep_frames(clip, self._stream_format.fps):
            self.check()
            tokens.append((index, vision.see(frame)))
        for question in questions:
            yield question, self._answer(question, tokens)

    def _answer(self, question: Annotation, tokens: Sequence[tuple[int, VisualTokens]]) -> Prediction:
        responses: list[Response] = []
        scores: list[list[float]] = []
        session = self._model.session(threshold=self._threshold)
        try:
            asked = False
            for index, visual_tokens in tokens:
                self.check()
                # In force from the first timestep that does not end before the query.
                if not asked and self._stream_format.interval(index)[1] >= question.query.time:
                    session.ask(question.query.text)
                    asked = True
                decision = session.push_tokens(visual_tokens, index)
                if not asked:
                    continue
                score = round(decision.score, SCORE_DIGITS)
                scores.append([decision.time, score])
                if decision.speak:
                    responses.append(Response(decision.time, decision.text or "", {"score": score}))
        finally:
            session.close()
        return delivered(Prediction(question.id, tuple(responses), extra={"scores": scores}))
