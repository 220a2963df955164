"""Takes over changes of ``edge-run.toml`` while cameras are being watched: queries, thresholds, the rest of
the policy, and privacy masks. No connection is touched and no frame is lost.

Checked between two timesteps, in the thread that runs the model, so nothing has to be locked. A file that
cannot be used changes nothing; what needs a restart is named.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import click

from edge_runtime.app.run.merge_queries import merge
from edge_runtime.app.run.run_config import RunConfig
from edge_runtime.app.run.run_spec import RunSpec, WatchedCamera
from edge_runtime.engine.query import Revision
from edge_runtime.errors import EdgeError
from edge_runtime.sinks import ReaderGoneError, SinkConfig

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
_STAYS = "; the configuration in use stays"

_RUNTIME_KEYS = {
    "bundle": "bundle",
    "threads": "threads",
    "backend": "backend",
    "spinning": "spinning",
    "stats_every_s": "stats_every",
    "events": "events",
    "rotation": "events_megabytes, events_days and events_keep",
    "outbox": "outbox",
    "metrics": "metrics",
}
_CAMERA_KEYS = {name: name for name in ("source", "fps", "user", "password_env", "password_file", "evidence")}
_CAMERA_KEYS["zones"] = "zone"
_OPTION_KEYS = {
    "transport": "transport",
    "decoder": "decoder",
    "connect_timeout_s": "connect_timeout",
    "stall_timeout_s": "stall_timeout",
    "give_up_s": "give_up",
    "still_skip_s": "still_skip",
    "catch_up": "catch_up",
    "tls_verify": "tls_verify",
    "tls_ca_file": "tls_ca_file",
    "tls_fingerprint": "tls_fingerprint",
}


class FileWatch:
    """Tells when a file was written: seen changed and then unchanged, so never half written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = self._seen = _stamp(path)

    def settled(self) -> bool:
        """True once for each change, at the second look at it. A file that is gone has not changed."""
        now = _stamp(self._path)
        lies_still, self._seen = now == self._seen, now
        if now is None or now == self._taken or not lies_still:
            return False
        self._taken = now
        return True


class Reloader:
    """``request`` (from a signal handler) and ``look`` (between two timesteps).

    ``watched`` is read at the looks: it may be filled after a request has come.
    """

    def __init__(
        self,
        spec: RunSpec,
        watched: Sequence[WatchedCamera],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert spec.config.path is not None
        self._path = spec.config.path
        self._started = self._config = spec.config
        self._reread = spec.reread
        self._watched = watched
        self._clock = clock
        self._file = FileWatch(self._path) if spec.follow_file else None
        self._next_look = clock() + LOOK_EVERY_S
        self._requested = False

    def request(self) -> None:
        """Read the file again at the next look, changed or not."""
        self._requested = True

    def look(self) -> None:
        """Take the file over if that was asked for or it has changed. Raises ReaderGoneError alone."""
        due = self._requested
        if not due and self._file is not None and self._clock() >= self._next_look:
            self._next_look = self._clock() + LOOK_EVERY_S
            due = self._file.settled()
        if due:
            self._requested = False
            try:
                self.take_over()
            except ReaderGoneError:
                raise
            except Exception as err:  # even a bug of ours must not end the watching
                _log.warning(
                    "%s: could not be taken over: unexpected %s%s", self._path, _described(err), _STAYS
                )

    def take_over(self) -> None:
        """Read the file and take over what can be, all of it or nothing.

        A camera that fails over what is sound in itself ends as after any failure of its own.
        """
        revisions: list[Revision] = []
        running = [n for n, one in enumerate(self._watched) if not one.runner.over]
        try:
            config = self._reread()
            for n in running:
                runner = self._watched[n].runner
                before, after = self._config.cameras[n].queries, config.cameras[n].queries
                revisions.append(runner.prepare(merge(runner.loop.queries, before, after)))
        except (EdgeError, click.ClickException) as err:
            for revision in revisions:
                revision.discard()
            message = err.format_message() if isinstance(err, click.ClickException) else str(err)
            _log.warning("%s%s", self._named(message), _STAYS)
            return
        changes = []
        for n, revision in zip(running, revisions, strict=True):
            one = self._watched[n]
            try:
                words = one.runner.revise(revision)
                masks = config.cameras[n].options.framing.masks
                if masks != self._config.cameras[n].options.framing.masks:
                    one.camera.set_masks(masks)
                    words.append("masks changed")
            except ReaderGoneError:
                raise
            except Exception as err:
                one.runner.finish(err)
                continue
            if words:
                changes.append(f"{one.runner.stream}: {', '.join(words)}")
        self._config = config
        _log.info("%s taken over: %s", self._path, "; ".join(changes) or "nothing changed for the cameras")
        if later := needs_restart(self._started, config):
            verb = "takes" if len(later) == 1 else "take"
            _log.warning("%s: %s %s effect after a restart", self._path, ", ".join(later), verb)

    def _named(self, message: str) -> str:
        """Most messages name the file already, with its line."""
        return message if str(self._path) in message else f"{self._path}: {message}"


def needs_restart(running: RunConfig, new: RunConfig) -> list[str]:
    """The keys of the file that a run cannot take over: ``runtime.bundle``, ``door: source``."""
    keys = [f"runtime.{key}" for key in _differing(running.runtime, new.runtime, _RUNTIME_KEYS)]
    if running.evidence != new.evidence:
        keys.append("evidence")
    if running.endpoint != new.endpoint:
        keys.append("endpoint")
    for kind in dict.fromkeys(sink.kind for sink in (*running.sinks, *new.sinks)):
        if _of_kind(kind, running) != _of_kind(kind, new):
            keys.append(kind)
    if running.web != new.web:
        keys.append("web")
    for old, camera in zip(running.cameras, new.cameras, strict=True):
        changed = _differing(old, camera, _CAMERA_KEYS)
        changed += _differing(old.options, camera.options, _OPTION_KEYS)
        changed += _differing(
            old.options.framing, camera.options.framing, {"crop": "crop", "rotate": "rotate"}
        )
        keys += [f"{camera.name}: {key}" for key in changed]
    return keys


def _of_kind(kind: str, config: RunConfig) -> list[SinkConfig]:
    return [sink for sink in config.sinks if sink.kind == kind]


def _differing(old: object, new: object, keys: dict[str, str]) -> list[str]:
    return [key for name, key in keys.items() if getattr(old, name) != getattr(new, name)]


def _described(err: Exception) -> str:
    return f"{type(err).__name__}: {' '.join(str(err).split())}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Differs after every way of writing a file; None while there is none."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_mtime_ns, status.st_size, status.st_ino
    return None
