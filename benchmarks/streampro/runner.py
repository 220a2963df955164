"""A model watches the clips of a benchmark and answers its questions.

Each clip is decoded once, and its frames become visual tokens once; then every question on it is answered
by a session of its own, fed with those tokens. All threads share one model; decoding and inference release
the interpreter lock.

Beside the format's keys a prediction holds what the page of `plot` draws: ``score``, the probability of
speaking, with each response, and ``scores``, ``[time, score]`` of every timestep from the query on. It holds
what a person would have received: the runtime's default policy withholds the same words said again at once.
Where still scenes are left out, ``left_out`` counts those timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.annotations import Annotation, Prediction, Response
from benchmarks.metric.delivery import delivered
from benchmarks.streampro.clip_pool import ClipPool
from benchmarks.streampro.clips import timestep_frames
from edge_runtime import Model
from edge_runtime.engine.still_scene import StillScene

VisualTokens = NDArray[np.float32]


class _Seen(NamedTuple):
    """One timestep of a clip."""

    index: int
    image: NDArray[np.uint8]
    tokens: VisualTokens


SCORE_DIGITS = 4
"""Decimals of a written score: enough for any plot, and a clip's scores stay a short line."""


class Runner(ClipPool):
    """Answers questions with one model. ``threshold``: score from which it speaks, None for its own.

    ``still_skip_s``: timesteps of a still scene are left out for so many seconds at most, as by ``edge-run
    --still-skip``; 0: never.
    """

    def __init__(
        self, model: Model, *, threshold: float | None = None, workers: int = 1, still_skip_s: float = 0.0
    ) -> None:
        super().__init__(workers)
        self._still_skip_s = still_skip_s
        self._model = model
        self._stream_format = model.stream_format
        self._threshold = threshold

    def answer_clip(
        self, clip: Path, questions: Sequence[Annotation]
    ) -> Iterator[tuple[Annotation, Prediction]]:
        """Each question on one clip with its prediction, in order."""
        timesteps: list[_Seen] = []
        vision = self._model.open_vision()
        for index, frame in timestep_frames(clip, self._stream_format.fps, compare=self._still_skip_s > 0):
            self.check()
            timesteps.append(_Seen(index, frame, vision.see(frame)))
        for question in questions:
            yield question, self._answer(question, timesteps)

    def _answer(self, question: Annotation, timesteps: Sequence[_Seen]) -> Prediction:
        responses: list[Response] = []
        scores: list[list[float]] = []
        scene, left_out = StillScene(self._still_skip_s), 0
        session = self._model.session(threshold=self._threshold)
        try:
            asked = False
            for index, image, visual_tokens in timesteps:
                self.check()
                end_s = self._stream_format.interval(index)[1]
                # In force from the first timestep that does not end before the query.
                if not asked and end_s >= question.query.time:
                    session.ask(question.query.text)
                    scene.restart()
                    asked = True
                if scene.leaves_out(image, end_s):
                    left_out += 1
                    continue
                decision = session.push_tokens(visual_tokens, index)
                scene.decided([decision], end_s)
                if not asked:
                    continue
                score = round(decision.score, SCORE_DIGITS)
                scores.append([decision.time, score])
                if decision.speak:
                    responses.append(Response(decision.time, decision.text or "", {"score": score}))
        finally:
            session.close()
        more = {"left_out": left_out} if self._still_skip_s else {}
        return delivered(Prediction(question.id, tuple(responses), extra={"scores": scores, **more}))
