"""A run from its configuration to its exit code: open outputs and model, watch the cameras, sum up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from edge_runtime.app.run.open_cameras import (
    Shared,
    begin,
    find_cameras,
    make_runner,
    open_all,
    warn_of_footage,
)
from edge_runtime.app.run.open_model import open_model
from edge_runtime.app.run.run_spec import RunSpec, WatchedCamera
from edge_runtime.app.run.summary import show_summaries
from edge_runtime.command_line.missing_extra import how_to_install
from edge_runtime.command_line.signals import reload_on_hangup, stop_on_signals
from edge_runtime.errors import ConfigError, EdgeError, SinkError
from edge_runtime.observability.console import Console
from edge_runtime.observability.systemd import ServiceManager

if TYPE_CHECKING:
    from edge_runtime.app.run.camera_set import CameraSet
    from edge_runtime.app.run.control import Control
    from edge_runtime.app.run.runner import Runner
    from edge_runtime.app.web.server import Address
    from edge_runtime.events.evidence import EvidenceWriter
    from edge_runtime.sinks import Sink

_log = logging.getLogger(__name__)


def watch(spec: RunSpec, console: Console) -> int:
    """Watch until the end; the exit code.

    A failure of the only camera is raised as EdgeError. One of several is logged when it happens; the others
    go on, and the exit code of the first failure is returned at the end.
    """
    from edge_runtime.app.run.camera_set import CameraSet
    from edge_runtime.app.run.control import Control
    from edge_runtime.app.run.home_assistant import open_all as open_home_assistants
    from edge_runtime.app.run.reload import Reloader
    from edge_runtime.app.run.scheduler import round_robin
    from edge_runtime.sinks import FileConfig, ReaderGoneError, SinkContext, Sinks
    from edge_runtime.sinks.registry import open_sinks

    runtime = spec.config.runtime
    wake = threading.Event()
    failed: list[Runner] = []
    reader_gone = False
    started: list[WatchedCamera] = []
    control = Control(wake.set)
    reloader = None
    with ExitStack() as stack:
        if spec.config.path is not None:
            # First of all: a reload that is requested while the model loads is done afterwards.
            reloader = Reloader(spec, started)
            stack.enter_context(reload_on_hangup(reloader.request))
        found = find_cameras(spec.config.cameras)
        address = _listen(spec, stack)  # what it lacks is said before the model is loaded
        # stdout last: when its reader goes away, the file has the event already.
        context = SinkContext(runtime.outbox, spec.config.evidence.folder)
        files = [FileConfig(str(runtime.events), runtime.rotation)] if runtime.events else []
        opened = open_sinks(files, context)
        opened += open_sinks(spec.config.sinks, context, needed=spec.config.needs_sinks)
        sinks = Sinks([*opened, control.sink, _stdout_sink(spec, console)])
        stack.callback(sinks.close)
        stack.callback(control.close)
        model = open_model(spec.config, wake.set, stack, sessions=len(found))
        warn_of_footage(model, found)
        evidence = _open_evidence(spec, stack)
        shared = Shared(spec, model, sinks, console, wake.set, evidence)
        named = _may_be_several(spec)
        runners = [make_runner(one, shared, named=named, duration_s=spec.duration_s) for one in found]

        def stop(cause: str) -> None:
            for runner in runners:
                runner.stop(cause)  # ``wake`` is left alone: the handler may interrupt who holds its lock
            if cameras is not None:
                cameras.stop(cause)

        def ended(runner: Runner) -> None:
            assert cameras is not None
            _in_background([one.camera.close for one in cameras.watched if one.runner is runner])
            if runner.error is not None:
                failed.append(runner)
                if len(cameras.watched) > 1:
                    _log.error("%s", _error_line(runner))

        cameras: CameraSet | None = None
        signals = stack.enter_context(stop_on_signals(stop))
        started += open_all(found, runners, shared)
        cameras = CameraSet(shared, control, started)
        stack.callback(_close_all, cameras)
        control.watch(started)
        home_assistants = stack.enter_context(open_home_assistants(spec.config, control))
        _serve(shared, address, control, cameras, opened, stack)
        for one in started:
            begin(one, shared)
        service = ServiceManager()
        service.ready()
        stack.callback(service.stopping)

        def between() -> None:
            service.alive()
            if reloader is not None:
                reloader.look()
            control.carry_out()

        try:
            round_robin(
                runners,
                wake=wake,
                between=between,
                ended=ended,
                joining=cameras.joining,
                stays=cameras.stays,
            )
        except ReaderGoneError:
            reader_gone = True
        control.close()
        home_assistants.close()
        lost = sinks.close()

    runners = cameras.runners
    errors = [runner.error for runner in failed if runner in runners and runner.error is not None]
    # After `edge-run ... | head -1` nobody is watching; a source that never came has nothing to sum up.
    watching = not reader_gone or signals
    if runners and not spec.quiet and watching and (spec.as_json or not _never_came(runners)):
        show_summaries(console, [runner.report() for runner in runners], lost, as_json=spec.as_json)
    for name, count in lost.items():
        _log.error("%d events could not be written to %s and are lost", count, name)
    if evidence is not None and evidence.lost:
        lost["evidence"] = evidence.lost
        _log.error("%d files of evidence could not be written and are lost", evidence.lost)
    bug = next((error for error in errors if not isinstance(error, EdgeError)), None)
    if errors and (len(runners) == 1 or bug is not None):
        raise bug or errors[0]
    if signals:
        return 128 + signals[0]
    if errors:
        return getattr(errors[0], "exit_code", 1)
    return SinkError.exit_code if lost else 0


def _stdout_sink(spec: RunSpec, console: Console) -> Sink:
    """JSON for programs; on a terminal lines for people, and none there twice."""
    from edge_runtime.sinks import StdoutSink, TerminalSink, stdout_is_terminal

    if spec.as_json or not stdout_is_terminal():
        return StdoutSink()
    live = console.on_terminal and not spec.quiet
    return TerminalSink(spoken=not live, several=_may_be_several(spec))


def _may_be_several(spec: RunSpec) -> bool:
    """Whether a line for people must say whose it is."""
    return len(spec.config.cameras) > 1 or spec.config.web.allow_add_cameras


def _open_evidence(spec: RunSpec, stack: ExitStack) -> EvidenceWriter | None:
    """Until ``stack`` ends, which must close the cameras first. Raises SinkError for a useless folder."""
    config = spec.config.evidence
    if config.folder is None:
        return None
    from edge_runtime.events.evidence import EvidenceWriter
    from edge_runtime.events.evidence_store import EvidenceStore

    writer = EvidenceWriter(EvidenceStore(config.folder, config.retention))
    stack.callback(writer.close)
    return writer


def _listen(spec: RunSpec, stack: ExitStack) -> Address | None:
    """At the address of the page; None without one. Raises SinkError when it cannot be had, ConfigError for
    what it lacks: a package, a token, a certificate.
    """
    if spec.config.web.address is None:
        return None
    try:
        from edge_runtime.app.web.server import listen
    except ImportError as err:
        missing = (err.name or "a package").partition(".")[0]
        raise ConfigError(f"--web: {missing} is not installed; {how_to_install('web')}") from err
    address = listen(spec.config.web)
    stack.callback(address.socket.close)
    return address


def _serve(
    shared: Shared,
    address: Address | None,
    control: Control,
    cameras: CameraSet,
    sinks: Sequence[Sink],
    stack: ExitStack,
) -> None:
    """Metrics and page, while ``stack`` lasts, where an address is given. Raises SinkError when that of the
    metrics cannot be had.
    """
    config = shared.spec.config
    runtime, web = config.runtime, config.web
    if runtime.metrics is None and address is None:
        return
    from edge_runtime.observability.metrics import MetricsPages, MetricsServer

    pages = MetricsPages(cameras.streams, sinks, requests=shared.model.counts)
    if runtime.metrics is not None:
        stack.enter_context(closing(MetricsServer(*runtime.metrics, pages)))
    if address is not None:
        from edge_runtime.app.web.event_log import EventLog
        from edge_runtime.app.web.evidence import EvidenceFolder
        from edge_runtime.app.web.server import WebServer

        folder = config.evidence.folder
        server = WebServer(
            address,
            control,
            EventLog(runtime.events),
            pages,
            None if folder is None else EvidenceFolder(folder),
            cameras if web.allow_add_cameras else None,
            web.preview_size,
        )
        stack.enter_context(closing(server))
        _log.info("the page is at %s", address.url)


def _close_all(cameras: CameraSet) -> None:
    """Together: one that hangs must not add its seconds to those of the next."""
    for thread in _in_background([one.camera.close for one in cameras.watched]):
        thread.join()


def _in_background(calls: Iterable[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call, name="close", daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def _never_came(runners: Sequence[Runner]) -> bool:
    return all(runner.error is not None and not runner.telemetry.timesteps for runner in runners)


def _error_line(runner: Runner) -> str:
    """A failure in one line that names its camera."""
    message = " ".join(str(runner.error).split()) or type(runner.error).__name__
    if not isinstance(runner.error, EdgeError):
        message = f"unexpected {type(runner.error).__name__}: {message}"
    return message if message.startswith(runner.stream) else f"{runner.stream}: {message}"
