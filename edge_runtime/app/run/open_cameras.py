"""A run's cameras from their configuration on: found, given a runner on the run's model, opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_runtime import redaction
from edge_runtime.app.config_file import CameraConfig
from edge_runtime.app.live_display import LiveDisplay, NoDisplay
from edge_runtime.app.run import source_factory
from edge_runtime.app.run.run_spec import RunSpec, WatchedCamera
from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.observability.console import Console
from edge_runtime.video.samples import SAMPLE
from edge_runtime.video.source import AbsentCamera, Camera

if TYPE_CHECKING:
    from edge_runtime.app.run.runner import Display, Runner
    from edge_runtime.engine.stream_model import StreamModel
    from edge_runtime.events.evidence import CameraEvidence, EvidenceWriter
    from edge_runtime.sinks import Sinks

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundCamera:
    """A configured camera: parsed, not open."""

    name: str
    config: CameraConfig
    source: Any
    error: SourceError | None = None
    """Why it cannot be used; then there is no source."""


@dataclass(frozen=True)
class Shared:
    """What all cameras of a run share."""

    spec: RunSpec
    model: StreamModel
    sinks: Sinks
    console: Console
    wake: Callable[[], None]
    """Called, from any thread, when a camera has something to read."""
    evidence: EvidenceWriter | None = None
    board: dict[str, str] = field(default_factory=dict)
    """What is shown of each camera in the line for all of them."""


def find_cameras(cameras: Sequence[CameraConfig]) -> list[FoundCamera]:
    """Parse every source. Raises SourceError for the only camera, ConfigError where two are the same."""
    found = []
    for config in cameras:
        try:
            source = source_factory.parse(config)
        except SourceError as err:
            if len(cameras) == 1:
                raise
            found.append(FoundCamera(config.name or redaction.scrub(config.source), config, None, err))
        else:
            found.append(FoundCamera(config.name or source.label, config, source))
    if len(found) > 1:
        source_factory.check_distinct([(one.name, one.source) for one in found])
    return found


def warn_of_footage(model: StreamModel, found: Sequence[FoundCamera]) -> None:
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


def make_runner(one: FoundCamera, shared: Shared, *, named: bool, duration_s: float | None) -> Runner:
    """Its runner on the run's model; ``named``: lines for people say whose they are.

    Raises EdgeError for a query that cannot be asked.
    """
    from edge_runtime.app.run.runner import Runner
    from edge_runtime.events.records import EventMaker

    spec, model = shared.spec, shared.model
    display: Display = NoDisplay()
    if not spec.quiet and not spec.as_json:
        live = LiveDisplay(shared.console, one.name if named else "", shared.board)
        live.questions(one.config.queries)
        display = live
    identity = source_factory.identity(one.source, model) if one.error is None else None
    return Runner(
        _model_for(one, model),
        one.config.queries,
        EventMaker(one.name, identity),
        shared.sinks,
        display,
        duration_s=duration_s,
        stats_every_s=spec.config.runtime.stats_every_s,
        still_skip_s=one.config.options.still_skip_s,
    )


def open_one(one: FoundCamera, runner: Runner, shared: Shared) -> WatchedCamera:
    """Start reading a camera. Raises SourceError."""
    if one.error is not None:
        raise one.error
    evidence = one.config.evidence if shared.evidence is not None else None
    camera = source_factory.open_camera(one.source, runner.model, one.config.options, shared.wake, evidence)
    return WatchedCamera(one.config, runner, camera, one.source)


def open_all(found: Sequence[FoundCamera], runners: Sequence[Runner], shared: Shared) -> list[WatchedCamera]:
    """Start reading every camera. Raises SourceError for the only one."""
    watched = []
    for one, runner in zip(found, runners, strict=True):
        try:
            watched.append(open_one(one, runner, shared))
        except SourceError as err:
            if len(found) == 1:
                raise
            camera: Camera = AbsentCamera(one.name, err)
            watched.append(WatchedCamera(one.config, runner, camera, one.source))
    return watched


def begin(one: WatchedCamera, shared: Shared) -> None:
    """Let its runner watch it, and keep evidence where that is wanted."""
    one.runner.begin(one.camera, _evidence_of(one, shared.evidence))


def _model_for(one: FoundCamera, model: StreamModel) -> StreamModel:
    """The model at the camera's rate and with its zones. Raises ConfigError when it knows none."""
    try:
        at_its_rate = model.with_fps(one.config.fps or model.stream_format.fps)
        return at_its_rate.with_zones(one.config.zones, one.config.options.framing)
    except ConfigError as err:
        raise ConfigError(f"camera {one.name}: {err}") from err


def _evidence_of(one: WatchedCamera, writer: EvidenceWriter | None) -> CameraEvidence | None:
    if writer is None:
        return None
    from edge_runtime.events.evidence import CameraEvidence

    return CameraEvidence(writer, one.runner.stream, one.config.evidence, live=one.camera.live)
