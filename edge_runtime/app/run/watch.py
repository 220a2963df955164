"""A run from its plan to its exit code: outputs and model are opened, the cameras watched in turns, and what
came of it is summed up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime import redaction
from edge_runtime.app.live_display import LiveDisplay, NoDisplay
from edge_runtime.app.run import source_factory as opening
from edge_runtime.app.run.spec import Job, Watched
from edge_runtime.app.run.summary import show_summaries
from edge_runtime.command_line.signals import reload_on_hangup, stop_on_signals
from edge_runtime.config.schema import CameraConfig
from edge_runtime.errors import EdgeError, SinkError, SourceError
from edge_runtime.observability.console import Console
from edge_runtime.observability.systemd import ServiceManager
from edge_runtime.video.source import AbsentCamera, Camera

if TYPE_CHECKING:
    from edge_runtime.engine.decision_loop import Display, Runner
    from edge_runtime.engine.model import Model
    from edge_runtime.sinks import Sink, Sinks

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """A camera of the plan, looked at but not open."""

    name: str
    config: CameraConfig
    source: Any
    error: SourceError | None = None
    """Why it cannot be used; then there is no source."""


def watch(job: Job, console: Console) -> int:
    """Watch until the end; the exit code.

    What goes wrong with the only camera is raised as EdgeError. Of several it is said when it happens, the
    others go on, and the code of the first failure is returned in the end.
    """
    import edge_runtime
    from edge_runtime.app.run.reload import Reloader
    from edge_runtime.app.run.scheduler import take_turns
    from edge_runtime.sinks import FileConfig, ReaderGoneError, SinkContext, Sinks
    from edge_runtime.sinks.registry import open_sinks

    runtime = job.plan.runtime
    wake = threading.Event()
    errors: list[Exception] = []
    reader_gone = False
    watched: list[Watched] = []
    reloader = None
    with ExitStack() as stack:
        if job.plan.path is not None:
            # First of all: whoever asks for a reload while the model is loaded gets it afterwards.
            reloader = Reloader(job, watched)
            stack.enter_context(reload_on_hangup(reloader.request))
        found = _find(job.plan.cameras)
        # stdout last: when its reader goes away, the file has the event already.
        context = SinkContext(runtime.outbox)
        files = [FileConfig(str(runtime.events), runtime.rotation)] if runtime.events else []
        opened = open_sinks(files, context)
        opened += open_sinks(job.plan.sinks, context, needed=job.plan.needs_sinks)
        sinks = Sinks([*opened, _stdout_sink(job, console)])
        stack.callback(sinks.close)
        model = edge_runtime.load(
            runtime.bundle,
            threads=runtime.threads,
            backend=runtime.backend,
            spinning=runtime.spinning,
        )
        runners = _runners(job, found, model, sinks, console)

        def stop(cause: str) -> None:
            for runner in runners:
                runner.stop(cause)  # ``wake`` is left alone: the handler may interrupt who holds its lock

        def ended(runner: Runner) -> None:
            _in_background([one.camera.close for one in watched if one.runner is runner])
            if runner.error is not None:
                errors.append(runner.error)
                if len(runners) > 1:
                    _log.error("%s", _described(runner))

        signals = stack.enter_context(stop_on_signals(stop))
        watched += _open_all(found, runners, wake.set)
        stack.callback(_close_all, [one.camera for one in watched])
        _serve_metrics(job, watched, opened, stack)
        for one in watched:
            one.runner.begin(one.camera)
        service = ServiceManager()
        service.ready()
        stack.callback(service.stopping)

        def between() -> None:
            service.alive()
            if reloader is not None:
                reloader.look()

        try:
            take_turns(runners, wake=wake, between=between, ended=ended)
        except ReaderGoneError:
            reader_gone = True
        lost = sinks.close()

    # After `edge-run ... | head -1` nobody is watching; a source that never came has nothing to sum up.
    watching = not reader_gone or signals
    if not job.quiet and watching and (job.as_json or not _never_came(runners)):
        show_summaries(console, [runner.report() for runner in runners], lost, as_json=job.as_json)
    for name, count in lost.items():
        _log.error("%d events could not be written to %s and are lost", count, name)
    bug = next((error for error in errors if not isinstance(error, EdgeError)), None)
    if errors and (len(runners) == 1 or bug is not None):
        raise bug or errors[0]
    if signals:
        return 128 + signals[0]
    if errors:
        return getattr(errors[0], "exit_code", 1)
    return SinkError.exit_code if lost else 0


def _stdout_sink(job: Job, console: Console) -> Sink:
    """JSON for programs; on a terminal lines for people, and none there twice."""
    from edge_runtime.sinks import StdoutSink, TerminalSink, stdout_is_terminal

    if job.as_json or not stdout_is_terminal():
        return StdoutSink()
    live = console.on_terminal and not job.quiet
    return TerminalSink(spoken=not live, several=len(job.plan.cameras) > 1)


def _find(cameras: Sequence[CameraConfig]) -> list[_Found]:
    """Look at every source. Raises SourceError for the only camera, ConfigError where two are one."""
    found = []
    for config in cameras:
        try:
            source = opening.parse(config)
        except SourceError as err:
            if len(cameras) == 1:
                raise
            found.append(_Found(config.name or redaction.scrub(config.source), config, None, err))
        else:
            found.append(_Found(config.name or source.label, config, source))
    if len(found) > 1:
        opening.check_distinct([(one.name, one.source) for one in found])
    return found


def _runners(job: Job, found: Sequence[_Found], model: Model, sinks: Sinks, console: Console) -> list[Runner]:
    """One for each camera, on the one model. Raises EdgeError for a question that cannot be asked."""
    from edge_runtime.engine.decision_loop import Runner, with_fps
    from edge_runtime.events.records import EventMaker

    board: dict[str, str] = {}
    runners = []
    for one in found:
        display: Display = NoDisplay()
        if not job.quiet and not job.as_json:
            live = LiveDisplay(console, one.name if len(found) > 1 else "", board)
            live.questions(one.config.asks)
            display = live
        identity = opening.identity(one.source, model) if one.error is None else None
        runners.append(
            Runner(
                with_fps(model, one.config.fps or model.protocol.fps),
                one.config.asks,
                EventMaker(one.name, identity),
                sinks,
                display,
                duration_s=job.duration_s,
                stats_every_s=job.plan.runtime.stats_every_s,
            )
        )
    return runners


def _open_all(found: Sequence[_Found], runners: Sequence[Runner], wake: Callable[[], None]) -> list[Watched]:
    """Start reading every camera. Raises SourceError for the only one."""
    watched = []
    for one, runner in zip(found, runners, strict=True):
        camera: Camera
        try:
            if one.error is not None:
                raise one.error
            camera = opening.open_camera(one.source, runner.model, one.config.options, wake)
        except SourceError as err:
            if len(found) == 1:
                raise
            camera = AbsentCamera(one.name, err)
        watched.append(Watched(one.config, runner, camera))
    return watched


def _serve_metrics(job: Job, watched: Sequence[Watched], sinks: Sequence[Sink], stack: ExitStack) -> None:
    """While ``stack`` lasts, if an address is given. Raises SinkError when it cannot be had."""
    if job.plan.runtime.metrics is None:
        return
    from edge_runtime.observability.metrics import MetricsServer, StreamMetrics

    streams = [
        StreamMetrics(one.runner.stream, one.runner.model.protocol.fps, one.runner.telemetry, one.camera)
        for one in watched
    ]
    stack.enter_context(closing(MetricsServer(*job.plan.runtime.metrics, streams, sinks)))


def _close_all(cameras: Sequence[Camera]) -> None:
    """Together: one that hangs must not add its seconds to those of the next."""
    for thread in _in_background([camera.close for camera in cameras]):
        thread.join()


def _in_background(calls: Iterable[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call, name="close", daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def _never_came(runners: Sequence[Runner]) -> bool:
    return all(runner.error is not None and not runner.telemetry.timesteps for runner in runners)


def _described(runner: Runner) -> str:
    """A failure in one line that names its camera."""
    message = " ".join(str(runner.error).split()) or type(runner.error).__name__
    if not isinstance(runner.error, EdgeError):
        message = f"unexpected {type(runner.error).__name__}: {message}"
    return message if message.startswith(runner.stream) else f"{runner.stream}: {message}"
