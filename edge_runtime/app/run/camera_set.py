"""The cameras of a run: those that it starts with, and those that are added and removed while it watches.

A change takes two steps. What may take long (parsing an address, opening and closing a camera) is done in the
thread of the caller; what the decisions depend on is done between two timesteps by the thread that runs the
model, as every change of :mod:`edge_runtime.app.run.control` is. So no other camera loses a frame.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from edge_runtime.app.config_file import CameraConfig
from edge_runtime.app.run import source_factory
from edge_runtime.app.run.control import CameraStatus, Control, UnknownCameraError
from edge_runtime.app.run.open_cameras import (
    FoundCamera,
    Shared,
    begin,
    make_runner,
    open_one,
    warn_of_footage,
)
from edge_runtime.app.run.run_spec import WatchedCamera
from edge_runtime.app.run.runner import Runner
from edge_runtime.errors import BundleError, ConfigError, EdgeError, SourceError
from edge_runtime.events.evidence_config import EvidenceSettings
from edge_runtime.observability.metrics import StreamMetrics

_log = logging.getLogger(__name__)

MOST_CAMERAS = 64
"""Of one run: each has a pipeline, a cache for its questions and a turn in every round."""
_WAIT_S = 2.0
"""For the change before this one."""


class CameraSet:
    """``add`` and ``remove`` are for any thread but the one that runs the model; the rest is for that one."""

    def __init__(self, shared: Shared, control: Control, watched: Sequence[WatchedCamera]) -> None:
        self.watched = list(watched)
        """All that were not removed, in order; some may have ended."""
        self.joining: deque[Runner] = deque()
        """Runners that the scheduler is to take up."""
        self.streams = [_stream(one) for one in watched]
        self._shared = shared
        self._control = control
        self._changing = threading.Lock()
        self._idle = not watched
        """Nothing is watched because none was given or the last one was removed, not because it ended."""
        self._stopping = False
        self._ends_at = None if shared.spec.duration_s is None else time.monotonic() + shared.spec.duration_s

    @property
    def evidence_settings(self) -> EvidenceSettings:
        """What an added camera keeps."""
        return self._shared.spec.config.evidence.settings

    @property
    def runners(self) -> list[Runner]:
        return [one.runner for one in self.watched]

    def add(self, config: CameraConfig, password: str | None = None) -> CameraStatus:
        """Watch one more camera, from the next timestep on. It is connected to like any other: one that does
        not answer yet is tried again. ``password``: that of ``config.user``.

        Raises ConfigError for a camera that cannot be, EdgeError when the run is over or busy.
        """
        with self._alone():
            try:
                source = source_factory.parse(config, files=False, password=password)
                found = FoundCamera(config.name, config, source)
                self._check(found)
                duration_s = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
                make = partial(make_runner, found, self._shared, named=True, duration_s=duration_s)
                runner = self._control.between_timesteps(make)
                one = self._open(found, runner)
            except (SourceError, BundleError) as err:
                raise ConfigError(str(err)) from err
            try:
                self._control.between_timesteps(lambda: self._join(one))
            except EdgeError:
                one.camera.close()
                runner.loop.close()
                raise
        warn_of_footage(self._shared.model, [found])
        _log.info("%s was added: %s", config.name, one.camera.description)
        return self._control.camera(config.name)

    def remove(self, name: str) -> None:
        """Stop watching a camera and let go of all that it held; its events and evidence stay.

        Raises UnknownCameraError, and EdgeError when the run is over or busy.
        """
        with self._alone():
            one = self._control.between_timesteps(lambda: self._leave(name))
            one.camera.close()
        _log.info("%s was removed", name)

    def stop(self, cause: str) -> None:
        """End the run after the timestep in hand. May be called from a signal handler."""
        self._stopping = True
        for one in self.watched:
            one.runner.stop(cause)

    def stays(self) -> bool:
        """Whether the run goes on without a camera that is watched: until it is stopped, or one is added."""
        over = self._ends_at is not None and time.monotonic() >= self._ends_at
        return self._idle and not self._stopping and not over

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._changing.acquire(timeout=_WAIT_S):
            raise EdgeError("another camera is being added or removed; try again later")
        try:
            yield
        finally:
            self._changing.release()

    def _check(self, found: FoundCamera) -> None:
        if len(self.watched) >= MOST_CAMERAS:
            raise ConfigError(f"{MOST_CAMERAS} cameras are watched already; remove one first")
        if any(one.runner.stream == found.name for one in self.watched):
            raise ConfigError(f"{found.name} is watched already; choose another name, or remove it first")
        readers = [(one.runner.stream, one.source) for one in self.watched if not one.runner.over]
        source_factory.check_distinct([*readers, (found.name, found.source)])
        self._check_memory(len(found.config.queries))

    def _check_memory(self, sessions: int) -> None:
        if self._shared.spec.config.endpoint or not sessions:
            return
        from edge_runtime.bundle.manifest import read_bundle
        from edge_runtime.bundle.memory_plan import check_memory

        check_memory(read_bundle(self._shared.spec.config.runtime.bundle), sessions, loaded=True)

    def _open(self, found: FoundCamera, runner: Runner) -> WatchedCamera:
        try:
            return open_one(found, runner, self._shared)
        except SourceError:
            self._control.between_timesteps(runner.loop.close)
            raise

    def _join(self, one: WatchedCamera) -> None:
        self.watched.append(one)
        self.streams.append(_stream(one))
        self._control.join(one)
        begin(one, self._shared)
        self._idle = False
        if self._stopping:
            one.runner.stop("the run was stopped")
        self.joining.append(one.runner)

    def _leave(self, name: str) -> WatchedCamera:
        one = next((one for one in self.watched if one.runner.stream == name), None)
        if one is None:
            known = ", ".join(one.runner.stream for one in self.watched) or "none"
            raise UnknownCameraError(f"{name}: no such camera is watched (there are: {known})")
        self.watched.remove(one)
        self.streams[:] = [_stream(other) for other in self.watched]
        self._control.leave(name)  # before its last events: their receivers find it gone
        if not one.runner.over:
            one.runner.stop("it was removed")
            one.runner.finish()
            self._idle = all(other.runner.over for other in self.watched)
        return one


def _stream(one: WatchedCamera) -> StreamMetrics:
    runner = one.runner
    return StreamMetrics(runner.stream, runner.model.stream_format.fps, runner.telemetry, one.camera)
