"""Clips spread over threads: each is watched by one thread, which answers all its questions."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from benchmarks.metric.annotations import Annotation, Prediction


class _Stopped(Exception):
    """The run was asked to stop."""


class ClipPool(ABC):
    """A way to answer questions clip by clip. ``workers``: clips at a time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._stop = threading.Event()

    @abstractmethod
    def answer_clip(
        self, clip: Path, questions: Sequence[Annotation]
    ) -> Iterator[tuple[Annotation, Prediction]]:
        """Each question on one clip with its prediction, in order. Calls :meth:`check` at every timestep."""

    def stop(self) -> None:
        """Tell all threads to end at their next timestep."""
        self._stop.set()

    def check(self) -> None:
        """Ends this thread's clip when the run has been asked to stop."""
        if self._stop.is_set():
            raise _Stopped

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
                self.stop()
                wait(running)
                self._stop.clear()
                while not inbox.empty():
                    answer = inbox.get()
                    if answer is not None:
                        answered(*answer)


def _by_clip(annotations: Sequence[Annotation]) -> dict[Path, list[Annotation]]:
    clips: dict[Path, list[Annotation]] = {}
    for annotation in annotations:
        clips.setdefault(annotation.video_path, []).append(annotation)
    return clips
