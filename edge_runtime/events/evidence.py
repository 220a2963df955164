"""Evidence of responses: a snapshot of the deciding frame and a clip of the seconds around it.

What the files will be called is known at once and goes into the event. They are written by a thread of their
own: the snapshot right away, the clip once its last second has come. A problem is logged once, and once when
it is over; it never ends or delays a run.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.events.evidence_config import EvidenceSettings
from edge_runtime.events.evidence_store import CLIP, SNAPSHOT, EvidenceStore, file_stem

_log = logging.getLogger(__name__)

MOST_WAITING = 64
"""Files that wait to be written, clips that are still being recorded among them."""
CLOSE_S = 60.0
"""How long the end of a run waits for what is still to be written."""
_TIDY_EVERY_S = 60.0


class Clip(Protocol):
    """A clip that is being recorded; ``pipelines.evidence.moment`` has the real one."""

    at_s: float
    """Where in the clip the frame lies that it is about, in seconds."""

    def write(self, path: Path) -> None:
        """Write an MP4. Raises OSError or SinkError."""
        ...


class Moment(Protocol):
    """What evidence of one frame is made from; ``pipelines.evidence.moment`` has the real one."""

    @property
    def has_picture(self) -> bool: ...

    def jpeg(self) -> bytes:
        """The frame as JPEG, privacy masks applied."""
        ...

    def clip_problem(self) -> str:
        """Why there can be no clip of it, in words; empty when there can."""
        ...

    def record(self, pre_s: float, post_s: float, on_done: Callable[[Clip], None]) -> Clip | None:
        """Start a clip; ``on_done(clip)`` is called once it can be written, on any thread, maybe at once."""
        ...


class _Job:
    """A file to be written."""

    def __init__(self, event: str, ending: str) -> None:
        self.event = event
        self.ending = ending
        self.time = time.time()
        self.make: Callable[[Path], None] | None = None


class EvidenceWriter:
    """Writes the evidence of all cameras. ``close`` it after the cameras."""

    def __init__(self, store: EvidenceStore) -> None:
        self.store = store
        self.lost = 0
        """Files that were announced and could not be written."""
        self._failing = False
        self._waiting = 0
        self._ready = 0
        """Of those, the ones that nothing is missing for but the writing."""
        self._changed = threading.Condition()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    def begin(self, event: str, ending: str, *, live: bool) -> _Job | None:
        """Announce a file. None of a live camera while too many wait.

        A recording is held up until the writing has caught up. Clips that are still open do not count then:
        they need the reading to go on.
        """
        with self._changed:
            if live and self._waiting >= MOST_WAITING:
                return None
            while not live and self._ready >= MOST_WAITING:
                self._changed.wait()
            self._waiting += 1
        return _Job(event, ending)

    def give_up(self) -> None:
        """Nothing comes of what was announced."""
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def finish(self, job: _Job) -> None:
        """Everything for an announced file is there (any thread)."""
        with self._changed:
            self._ready += 1
        self._jobs.put(job)

    def close(self) -> int:
        """Write what is still to be written, and return how many files were lost."""
        deadline = time.monotonic() + CLOSE_S
        with self._changed:
            while self._waiting and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self.lost += self._waiting
        self._jobs.put(None)
        self._thread.join(max(1.0, deadline - time.monotonic()))
        return self.lost

    def _run(self) -> None:
        next_tidy = time.monotonic() + _TIDY_EVERY_S
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, next_tidy - time.monotonic()))
            except queue.Empty:
                next_tidy = time.monotonic() + _TIDY_EVERY_S
                self._attempt(self.store.tidy)
                continue
            if job is None:
                return
            if not self._attempt(partial(self._write, job)):
                self.lost += 1
            with self._changed:
                self._ready -= 1
            self.give_up()

    def _write(self, job: _Job) -> None:
        assert job.make is not None
        self.store.write(job.event, job.ending, job.time, job.make)

    def _attempt(self, action: Callable[[], Any]) -> bool:
        """Say once that writing fails, and once that it works again."""
        try:
            action()
        except Exception as err:
            reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
            if not self._failing:
                self._failing = True
                _log.warning(
                    "evidence cannot be written to %s: %s. The run goes on without it until it works again",
                    self.store.folder,
                    " ".join(reason.split()) or type(err).__name__,
                )
            return False
        if self._failing:
            self._failing = False
            _log.warning("evidence can be written to %s again", self.store.folder)
        return True


class CameraEvidence:
    """Keeps the evidence of one camera's responses. For one thread at a time."""

    def __init__(
        self, writer: EvidenceWriter, stream: str, settings: EvidenceSettings, *, live: bool
    ) -> None:
        self._writer = writer
        self._stream = stream
        self._settings = settings
        self._live = live
        self._told: set[str] = set()

    def keep(self, event: str, moment: Moment | None) -> dict[str, Any]:
        """Keep evidence of a response and return what goes into its event; nothing when there is none."""
        found: dict[str, Any] = {}
        if moment is None:
            return found
        stem = file_stem(event)
        if self._settings.snapshot and moment.has_picture and self._snapshot(event, moment):
            found["snapshot"] = f"{stem}{SNAPSHOT}"
        if self._settings.clip != "off" and (clip := self._clip(event, moment)) is not None:
            found["clip"] = f"{stem}{CLIP}"
            found["clip_at"] = round(clip.at_s, 3)
        return {"evidence": found} if found else {}

    def _snapshot(self, event: str, moment: Moment) -> bool:
        job = self._begin(event, SNAPSHOT)
        if job is None:
            return False

        def make(path: Path) -> None:
            path.write_bytes(moment.jpeg())

        job.make = make
        self._writer.finish(job)
        return True

    def _clip(self, event: str, moment: Moment) -> Clip | None:
        if problem := moment.clip_problem():
            self._tell(f"no clips are kept: {problem}")
            return None
        job = self._begin(event, CLIP)
        if job is None:
            return None

        def on_done(clip: Clip) -> None:
            job.make = clip.write
            self._writer.finish(job)

        clip = moment.record(self._settings.pre_s, self._settings.post_s, on_done)
        if clip is None:
            self._writer.give_up()
        return clip

    def _begin(self, event: str, ending: str) -> _Job | None:
        job = self._writer.begin(event, ending, live=self._live)
        if job is None:
            self._tell(f"evidence comes faster than it can be written; only {MOST_WAITING} files wait")
        return job

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            _log.warning("%s: %s", self._stream, problem)
