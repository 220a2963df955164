"""A run from its configuration to its exit code: open outputs and model, watch the cameras, sum up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime import redaction
from edge_runtime.app.config_file import CameraConfig
from edge_runtime.app.live_display import LiveDisplay, NoDisplay
from edge_runtime.app.run import source_factory
from edge_runtime.app.run.open_model import open_model
from edge_runtime.app.run.run_spec import RunSpec, WatchedCamera
from edge_runtime.app.run.summary import show_summaries
from edge_runtime.command_line.missing_extra import how_to_install
from edge_runtime.command_line.signals import reload_on_hangup, stop_on_signals
from edge_runtime.errors import ConfigError, EdgeError, SinkError, SourceError
from edge_runtime.observability.console import Console
from edge_runtime.observability.systemd import ServiceManager
from edge_runtime.video.samples import SAMPLE
from edge_runtime.video.source import AbsentCamera, Camera

if TYPE_CHECKING:
    from edge_runtime.app.run.control import Control
    from edge_runtime.app.run.runner import Display, Runner
    from edge_runtime.app.web.server import Address
    from edge_runtime.engine.stream_model import StreamModel
    from edge_runtime.events.evidence import CameraEvidence, EvidenceWriter
    from edge_runtime.sinks import Sink, Sinks

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _FoundCamera:
    """A configured camera: parsed, not open."""

    name: str
    config: CameraConfig
    source: Any
    error: SourceError | None = None
    """Why it cannot be used; then there is no source."""


def watch(spec: RunSpec, console: Console) -> int:
    """Watch until the end; the exit code.

    A failure of the only camera is raised as EdgeError. One of several is logged when it happens; the others
    go on, and the exit code of the first failure is returned at the end.
    """
    from edge_runtime.app.run.control import Control
    from edge_runtime.app.run.home_assistant import open_all
    from edge_runtime.app.run.reload import Reloader
    from edge_runtime.app.run.scheduler import round_robin
    from edge_runtime.sinks import FileConfig, ReaderGoneError, SinkContext, Sinks
    from edge_runtime.sinks.registry import open_sinks

    runtime = spec.config.runtime
    wake = threading.Event()
    errors: list[Exception] = []
    reader_gone = False
    watched: list[WatchedCamera] = []
    control = Control(wake.set)
    reloader = None
    with ExitStack() as stack:
        if spec.config.path is not None:
            # First of all: a reload that is requested while the model loads is done afterwards.
            reloader = Reloader(spec, watched)
            stack.enter_context(reload_on_hangup(reloader.request))
        found = _find_cameras(spec.config.cameras)
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
        _warn_of_footage(model, found)
        runners = _runners(spec, found, model, sinks, console)

        def stop(cause: str) -> None:
            for runner in runners:
                runner.stop(cause)  # ``wake`` is left alone: the handler may interrupt who holds its lock

        def ended(runner: Runner) -> None:
            _in_background([one.camera.close for one in watched if one.runner is runner])
            if runner.error is not None:
                errors.append(runner.error)
                if len(runners) > 1:
                    _log.error("%s", _error_line(runner))

        evidence = _open_evidence(spec, stack)
        signals = stack.enter_context(stop_on_signals(stop))
        watched += _open_all(found, runners, wake.set, keep_evidence=evidence is not None)
        stack.callback(_close_all, [one.camera for one in watched])
        control.watch(watched)
        home_assistants = stack.enter_context(open_all(spec.config, control))
        _serve(spec, address, control, watched, opened, stack)
        for one in watched:
            one.runner.begin(one.camera, _evidence_of(one, evidence))
        service = ServiceManager()
        service.ready()
        stack.callback(service.stopping)

        def between() -> None:
            service.alive()
            if reloader is not None:
                reloader.look()
            control.carry_out()

        try:
            round_robin(runners, wake=wake, between=between, ended=ended)
        except ReaderGoneError:
            reader_gone = True
        control.close()
        home_assistants.close()
        lost = sinks.close()

    # After `edge-run ... | head -1` nobody is watching; a source that never came has nothing to sum up.
    watching = not reader_gone or signals
    if not spec.quiet and watching and (spec.as_json or not _never_came(runners)):
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
    return TerminalSink(spoken=not live, several=len(spec.config.cameras) > 1)


def _find_cameras(cameras: Sequence[CameraConfig]) -> list[_FoundCamera]:
    """Parse every source. Raises SourceError for the only camera, ConfigError where two are the same."""
    found = []
    for config in cameras:
        try:
            source = source_factory.parse(config)
        except SourceError as err:
            if len(cameras) == 1:
                raise
            found.append(_FoundCamera(config.name or redaction.scrub(config.source), config, None, err))
        else:
            found.append(_FoundCamera(config.name or source.label, config, source))
    if len(found) > 1:
        source_factory.check_distinct([(one.name, one.source) for one in found])
    return found


def _warn_of_footage(model: StreamModel, found: Sequence[_FoundCamera]) -> None:
    """Once, where a model that knows generated clips alone is shown anything but the sample or the test
    source.
    """
    known = model.knowledge
    if known is None or known.footage != "generated":
        return
    real = [one.name for one in found if one.name != SAMPLE and not one.config.source.startswith("test:")]
    if real:
        _log.warning(
            "%s knows only generated clips (%s); its responses to %s are not reliable",
            model.name,
            known.domain.rstrip("."),
            ", ".join(real),
        )


def _runners(
    spec: RunSpec, found: Sequence[_FoundCamera], model: StreamModel, sinks: Sinks, console: Console
) -> list[Runner]:
    """One for each camera, on the one model. Raises EdgeError for a query that cannot be asked."""
    from edge_runtime.app.run.runner import Runner
    from edge_runtime.events.records import EventMaker

    board: dict[str, str] = {}
    runners = []
    for one in found:
        display: Display = NoDisplay()
        if not spec.quiet and not spec.as_json:
            live = LiveDisplay(console, one.name if len(found) > 1 else "", board)
            live.questions(one.config.queries)
            display = live
        identity = source_factory.identity(one.source, model) if one.error is None else None
        runners.append(
            Runner(
                _model_for(one, model),
                one.config.queries,
                EventMaker(one.name, identity),
                sinks,
                display,
                duration_s=spec.duration_s,
                stats_every_s=spec.config.runtime.stats_every_s,
                still_skip_s=one.config.options.still_skip_s,
            )
        )
    return runners


def _model_for(one: _FoundCamera, model: StreamModel) -> StreamModel:
    """The model at the camera's rate and with its zones. Raises ConfigError when it knows none."""
    try:
        at_its_rate = model.with_fps(one.config.fps or model.stream_format.fps)
        return at_its_rate.with_zones(one.config.zones, one.config.options.framing)
    except ConfigError as err:
        raise ConfigError(f"camera {one.name}: {err}") from err


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


def _evidence_of(one: WatchedCamera, writer: EvidenceWriter | None) -> CameraEvidence | None:
    if writer is None:
        return None
    from edge_runtime.events.evidence import CameraEvidence

    return CameraEvidence(writer, one.runner.stream, one.config.evidence, live=one.camera.live)


def _open_all(
    found: Sequence[_FoundCamera],
    runners: Sequence[Runner],
    wake: Callable[[], None],
    *,
    keep_evidence: bool,
) -> list[WatchedCamera]:
    """Start reading every camera. Raises SourceError for the only one."""
    watched = []
    for one, runner in zip(found, runners, strict=True):
        camera: Camera
        try:
            if one.error is not None:
                raise one.error
            evidence = one.config.evidence if keep_evidence else None
            camera = source_factory.open_camera(one.source, runner.model, one.config.options, wake, evidence)
        except SourceError as err:
            if len(found) == 1:
                raise
            camera = AbsentCamera(one.name, err)
        watched.append(WatchedCamera(one.config, runner, camera))
    return watched


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
    spec: RunSpec,
    address: Address | None,
    control: Control,
    watched: Sequence[WatchedCamera],
    sinks: Sequence[Sink],
    stack: ExitStack,
) -> None:
    """Metrics and page, while ``stack`` lasts, where an address is given. Raises SinkError when that of the
    metrics cannot be had.
    """
    runtime = spec.config.runtime
    if runtime.metrics is None and address is None:
        return
    from edge_runtime.observability.metrics import MetricsPages, MetricsServer, StreamMetrics

    streams = [
        StreamMetrics(one.runner.stream, one.runner.model.stream_format.fps, one.runner.telemetry, one.camera)
        for one in watched
    ]
    counted = watched[0].runner.model.counts if watched else dict
    pages = MetricsPages(streams, sinks, requests=counted)
    if runtime.metrics is not None:
        stack.enter_context(closing(MetricsServer(*runtime.metrics, pages)))
    if address is not None:
        from edge_runtime.app.web.event_log import EventLog
        from edge_runtime.app.web.evidence import EvidenceFolder
        from edge_runtime.app.web.server import WebServer

        folder = spec.config.evidence.folder
        evidence = None if folder is None else EvidenceFolder(folder)
        server = WebServer(address, control, EventLog(runtime.events), pages, evidence=evidence)
        stack.enter_context(closing(server))
        _log.info("the page is at %s", address.url)


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


def _error_line(runner: Runner) -> str:
    """A failure in one line that names its camera."""
    message = " ".join(str(runner.error).split()) or type(runner.error).__name__
    if not isinstance(runner.error, EdgeError):
        message = f"unexpected {type(runner.error).__name__}: {message}"
    return message if message.startswith(runner.stream) else f"{runner.stream}: {message}"
