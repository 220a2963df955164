"""A model watches the clips of a benchmark and answers its questions.

Each clip is decoded once, and its frames become visual tokens once; then every question on it is answered
by a session of its own, fed with those tokens. Clips are spread over threads: decoding and inference
release the interpreter lock, and all of them share one model.

Beside the format's keys a prediction holds what the page of `plot` draws: ``score``, the probability of
speaking, with each response, and ``scores``, ``[time, score]`` of every timestep from the query on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from benchmarks.streampro.annotations import Annotation, Prediction, Response
from benchmarks.streampro.clips import timestep_frames
from edge_runtime import Model

VisualTokens = NDArray[np.float32]

SCORE_DIGITS = 4
"""Decimals of a written score: enough for any plot, and a clip's scores stay a short line."""


class _Stopped(Exception):
    """The run was told to stop."""


class Runner:
    """Answers questions with one model. ``threshold``: score from which the model speaks, None for its own."""

    def __init__(self, model: Model, *, threshold: float | None = None, workers: int = 1) -> None:
        self._model = model
        self._protocol = model.protocol
        self._threshold = threshold
        self._workers = workers
        self._stop = threading.Event()

    def run(
        self, annotations: Sequence[Annotation], answered: Callable[[Annotation, Prediction], None]
    ) -> None:
        """Answer every question; ``answered`` is called in this thread, as soon as each one is there.

        Raises what the first failing clip raised (SourceError for one that cannot be decoded), after the
        answers that were complete by then have been handed over.
        """
        waiting = list(_by_clip(annotations).items())[::-1]
        running: set[Future[None]] = set()
        inbox: SimpleQueue[tuple[Annotation, Prediction] | None] = SimpleQueue()  # None: a clip has ended

        def watch(clip: Path, questions: Sequence[Annotation]) -> None:
            for answer in self.answer_clip(clip, questions):
                inbox.put(answer)

        with ThreadPoolExecutor(self._workers) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self._workers:
                        future = pool.submit(watch, *waiting.pop())
                        running.add(future)
                        future.add_done_callback(lambda _: inbox.put(None))
                    answer = inbox.get()
                    if answer is not None:
                        answered(*answer)
                        continue
                    for future in [future for future in running if future.done()]:
                        running.remove(future)
                        future.result()
            finally:
                # After Ctrl-C or a failure: the threads end at their next timestep; keep what they finished.
                self._stop.set()
                wait(running)
                self._stop.clear()
                while not inbox.empty():
                    answer = inbox.get()
                    if answer is not None:
                        answered(*answer)

    def answer_clip(
        self, clip: Path, questions: Sequence[Annotation]
    ) -> Iterator[tuple[Annotation, Prediction]]:
        """Each question on one clip with its prediction, in order."""
        tokens: list[tuple[int, VisualTokens]] = []
        for index, frame in timestep_frames(clip, self._protocol.fps):
            self._check()
            tokens.append((index, self._model.vision(frame)))
        for question in questions:
            yield question, self._answer(question, tokens)

    def _answer(self, question: Annotation, tokens: Sequence[tuple[int, VisualTokens]]) -> Prediction:
        responses: list[Response] = []
        scores: list[list[float]] = []
        session = self._model.session(threshold=self._threshold)
        try:
            asked = False
            for index, visual_tokens in tokens:
                self._check()
                # In force from the first timestep that does not end before the query.
                if not asked and self._protocol.interval(index)[1] >= question.query.time:
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
        return Prediction(question.id, tuple(responses), extra={"scores": scores})

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped


def _by_clip(annotations: Sequence[Annotation]) -> dict[Path, list[Annotation]]:
    clips: dict[Path, list[Annotation]] = {}
    for annotation in annotations:
        clips.setdefault(annotation.video_path, []).append(annotation)
    return clips
