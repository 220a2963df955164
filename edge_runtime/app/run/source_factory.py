"""From a camera's configuration to the open camera: the application's one bridge to :mod:`pipelines`.

Its imports stand inside the functions, so that what needs no camera needs no GStreamer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge_runtime import redaction
from edge_runtime.app.config_file import CameraConfig, SourceOptions
from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.events.evidence_config import EvidenceSettings

if TYPE_CHECKING:
    from edge_runtime.engine.stream_model import StreamModel
    from edge_runtime.video.source import Camera
    from pipelines.evidence.ring import Footage


def parse(camera: CameraConfig, *, files: bool = True, password: str | None = None) -> Any:
    """The parsed source, with the configuration's credentials; a file or device has been looked at.

    ``files``: whether it may be a file or images of this machine. ``password``: in place of the
    configuration's. Raises SourceError for a source that cannot
    be used, ConfigError for one that may not and for credentials that do not fit it.
    """
    redaction.register(password)
    from pipelines.sources.file import FileSource
    from pipelines.sources.images.source import ImagesSource
    from pipelines.sources.registry import parse_source

    source = parse_source(camera.source)
    if not files and isinstance(source, (FileSource, ImagesSource)):
        raise ConfigError("the source is a file; give a camera such as rtsp://host/path or /dev/video0")
    if camera.has_credentials or password is not None:
        if not source.takes_credentials:
            raise ConfigError(
                f"camera {camera.name}: user and password are for rtsp:// and http:// sources alone"
            )
        password = camera.password() if password is None else password
        redaction.register(password)
        source = source.with_credentials(camera.user, password)
    if (problem := source.check()) is not None:
        raise SourceError(problem.line(source.label), permanent=True)
    if not camera.name:
        # Somebody sits in front of it: say at once that there is no such camera. A configured one may come.
        source.resolve()
    return source


def check_distinct(sources: Sequence[tuple[str, Any]]) -> None:
    """Names with their parsed sources, None for one that cannot be used. Raises ConfigError for two of one
    name, as events would not tell them apart, and for two readers of what gives each frame once (a device, a
    port).
    """
    names: set[str] = set()
    readers: dict[object, str] = {}
    for name, source in sources:
        if name in names:
            raise ConfigError(f"two cameras are called {name}; give them names of their own in edge-run.toml")
        names.add(name)
        key = source.exclusive_key() if source is not None else None
        if key is None:
            continue
        if key in readers:
            raise ConfigError(f"{readers[key]} and {name} are the same camera; it can be watched once only")
        readers[key] = name


def masked_clip_problem(camera: CameraConfig) -> str | None:
    """Why no clip of a masked camera can be made here; None when it can, or none is wanted. SourceError."""
    if camera.evidence.clip == "off" or not camera.options.framing.masks:
        return None
    from pipelines.evidence import mp4

    return None if mp4.encoder() else mp4.NO_ENCODER


def identity(source: Any, model: StreamModel) -> str | None:
    """What a recording's event ids are made from; None for what is never the same again."""
    found: str | None = source.event_identity(model.identity)
    return found


def open_camera(
    source: Any,
    model: StreamModel,
    options: SourceOptions,
    wake: Callable[[], None] | None = None,
    evidence: EvidenceSettings | None = None,
) -> Camera:
    """Start reading; ``wake`` is called, from any thread, when there is something to read. SourceError.

    ``evidence``: keep what snapshots and clips are made from.
    """
    from pipelines.evidence.ring import Footage

    height, width = model.image_size
    footage = None
    if evidence is not None and (evidence.snapshot or evidence.clip != "off"):
        clip = evidence.clip != "off"
        footage = Footage(evidence.pre_s, evidence.buffer_bytes, picture=evidence.snapshot, clip=clip)
    return _open(source, options, model.stream_format.fps, (width, height), wake, footage)


def try_camera(source: Any, options: SourceOptions) -> Camera:
    """Start reading without a model, to see whether a frame comes. SourceError."""
    return _open(source, options, 1.0, (224, 224), None)


def _open(
    source: Any,
    options: SourceOptions,
    fps: float,
    size: tuple[int, int],
    wake: Callable[[], None] | None,
    footage: Footage | None = None,
) -> Camera:
    from pipelines import camera

    settings = {
        "rtsp_transport": options.transport,
        "decoder": options.decoder,
        "connect_timeout_s": options.connect_timeout_s,
        "stall_timeout_s": options.stall_timeout_s,
        "give_up_s": options.give_up_s,
        "catch_up": options.catch_up,
        "tls_verify": options.tls_verify,
        "tls_ca_file": str(options.tls_ca_file) if options.tls_ca_file else None,
        "tls_fingerprint": options.tls_fingerprint,
    }
    chosen: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    opened: Camera = camera.open_camera(
        source,
        fps=fps,
        size=size,
        options=camera.CameraOptions(
            framing=options.framing, evidence=footage, compare=bool(options.still_skip_s), **chosen
        ),
        wake=wake,
    )
    return opened
