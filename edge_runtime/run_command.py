"""``edge-run SOURCE``: watch one camera, stream or file, and write an event for each response."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.config import (
    TRANSPORTS,
    Ask,
    CameraConfig,
    Config,
    SourceOptions,
    find_config,
    parse_address,
)
from edge_runtime.display import (
    Console,
    LiveDisplay,
    NoDisplay,
    show_error,
    show_summary,
    show_summary_json,
    warner,
)
from edge_runtime.errors import ConfigError, EdgeError, SinkError, SourceError
from edge_runtime.framing import ROTATIONS, Framing, Polygon, parse_crop, parse_polygon

if TYPE_CHECKING:
    from edge_runtime.model import Model
    from edge_runtime.runner import Runner
    from edge_runtime.sinks import Sink
    from edge_runtime.sinks.remote import RemoteSink

SAMPLE = "sample"
SAMPLES = Path(__file__).parent / "samples"


class Number(click.FloatRange):
    """A float range that refuses ``nan`` and ``inf``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Parsed(click.ParamType):  # type: ignore[type-arg]
    """An option whose text is read by ``parse``, which raises ValueError."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except ValueError as err:
            self.fail(str(err), param, ctx)


@click.command("run", hidden=True)
@click.argument("sources", nargs=-1, metavar="SOURCE")
@click.option("--ask", "asks", multiple=True, metavar="TEXT", help="What to watch for. May be given again.")
@click.option(
    "--ask-at",
    "ask_at",
    multiple=True,
    type=Number(min=0),
    metavar="SECONDS",
    help="When the question is asked; the first --ask-at belongs to the first --ask.  [default: 0]",
)
@click.option("--bundle", metavar="NAME|FOLDER", help="The model.  [default: nano]")
@click.option(
    "--fps", type=Number(min=0, min_open=True, max=60), help="Decisions a second.  [default: the model's]"
)
@click.option("--threshold", type=Number(0, 1), help="Score from which it speaks.  [default: the bundle's]")
@click.option(
    "--min-gap", type=Number(min=0), metavar="SECONDS", help="Least time between two responses.  [default: 0]"
)
@click.option(
    "--mask",
    "masks",
    multiple=True,
    type=Parsed("polygon", parse_polygon),
    metavar='"X,Y X,Y ..."',
    help="Black out a polygon, in shares of the picture. May be given again.",
)
@click.option(
    "--crop", type=Parsed("crop", parse_crop), metavar="LEFT,TOP,WIDTH,HEIGHT", help="Look at a part alone."
)
@click.option(
    "--rotate", type=click.Choice([str(turn) for turn in ROTATIONS[1:]]), help="Turn the picture clockwise."
)
@click.option("--transport", type=click.Choice(TRANSPORTS), help="Of an RTSP camera.  [default: tcp]")
@click.option("--decoder", metavar="NAME", help="auto, software or a GStreamer decoder.  [default: auto]")
@click.option(
    "--connect-timeout", type=Number(min=0, min_open=True), metavar="SECONDS", help="To the first picture."
)
@click.option(
    "--stall-timeout", type=Number(min=0, min_open=True), metavar="SECONDS", help="Between two pictures."
)
@click.option(
    "--give-up",
    type=Number(min=0),
    metavar="SECONDS",
    help="End when a live source sends no picture for so long; 0: at its first failure.  [default: never]",
)
@click.option("--duration", type=Number(min=0, min_open=True), metavar="SECONDS", help="Stop after so long.")
@click.option(
    "--events", type=click.Path(path_type=Path), metavar="FILE", help="Append the events to this file, too."
)
@click.option(
    "--metrics",
    type=Parsed("address", parse_address),
    metavar="HOST:PORT",
    help="Serve Prometheus metrics and /health there.  [default: off; of a PORT alone, loopback]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="No live lines; the summary on stderr is one JSON object."
)
@click.option("--quiet", is_flag=True, help="No live lines and no summary; warnings and errors alone.")
@click.option("--config", metavar="FILE", help="Configuration.  [default: ./edge-run.toml, then the user's]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the model.  [default: chosen]")
def run(
    sources: tuple[str, ...],
    asks: tuple[str, ...],
    ask_at: tuple[float, ...],
    bundle: str | None,
    fps: float | None,
    threshold: float | None,
    min_gap: float | None,
    masks: tuple[Polygon, ...],
    crop: tuple[float, float, float, float] | None,
    rotate: str | None,
    transport: str | None,
    decoder: str | None,
    connect_timeout: float | None,
    stall_timeout: float | None,
    give_up: float | None,
    duration: float | None,
    events: Path | None,
    metrics: tuple[str, int] | None,
    as_json: bool,
    quiet: bool,
    config: str | None,
    threads: int | None,
) -> int:
    """Watch SOURCE and write an event for each response."""
    if not sources:
        raise click.UsageError("a source is missing, e.g. sample, camera0, clip.mp4 or rtsp://host/path")
    if len(sources) > 1:
        raise click.UsageError(
            f"one source at a time, got {len(sources)}; start edge-run once for each camera"
        )
    settings = find_config(config)
    camera = _camera(sources[0], settings)
    policy: dict[str, Any] = {
        name: value for name, value in (("threshold", threshold), ("min_gap_s", min_gap)) if value is not None
    }
    questions = _questions(camera, asks, ask_at, policy)
    runtime = replace(
        settings.runtime,
        bundle=bundle or settings.runtime.bundle,
        threads=threads or settings.runtime.threads,
        events=events or settings.runtime.events,
        metrics=metrics or settings.runtime.metrics,
    )
    given: dict[str, Any] = {
        "framing": _framing(camera.options.framing, masks, crop, rotate),
        "transport": transport,
        "decoder": decoder,
        "connect_timeout_s": connect_timeout,
        "stall_timeout_s": stall_timeout,
        "give_up_s": give_up,
    }
    options = replace(camera.options, **{name: value for name, value in given.items() if value is not None})
    job = _Job(
        replace(camera, fps=fps or camera.fps, asks=questions, options=options),
        replace(settings, runtime=runtime),
        duration,
    )
    return _watch(job, Console(sys.stderr), as_json=as_json, quiet=quiet)


@dataclass(frozen=True)
class _Job:
    """One camera to watch, and how."""

    camera: CameraConfig
    settings: Config
    duration_s: float | None


def _watch(job: _Job, console: Console, *, as_json: bool, quiet: bool) -> int:
    """Watch until the end; the exit code."""
    import edge_runtime
    from edge_runtime.delivery import open_receivers
    from edge_runtime.events import EventMaker
    from edge_runtime.runner import Runner, stop_on_signals, with_fps
    from edge_runtime.sinks import FileSink, ReaderGoneError, Sinks, StdoutSink

    source = _source(job.camera)
    scrub(console)
    runtime = job.settings.runtime
    warn = warner(console)
    # stdout last: when its reader goes away, the file has the event already.
    outputs: list[Sink] = [FileSink(runtime.events, warn)] if runtime.events else []
    receivers = open_receivers(job.settings.receivers, runtime.outbox, warn, _hide)
    sinks = Sinks([*outputs, *receivers, StdoutSink(warn)])
    display = NoDisplay() if quiet or as_json else LiveDisplay(console)

    model = edge_runtime.load(runtime.bundle, threads=runtime.threads)
    model = with_fps(model, job.camera.fps or model.protocol.fps)
    identity = _identity(source, model)
    runner = Runner(
        model,
        job.camera.asks,
        EventMaker(job.camera.name or source.label, identity),
        sinks,
        display,
        duration_s=job.duration_s,
        stats_every_s=runtime.stats_every_s,
    )
    error: EdgeError | None = None
    reader_gone = False
    with stop_on_signals(runner.stop) as signals, _open(source, model, job.camera.options) as camera:
        if isinstance(display, LiveDisplay):
            display.questions(job.camera.asks)
        try:
            with _metrics(runtime.metrics, runner, model, camera, receivers):
                runner.run(camera)
        except ReaderGoneError:
            reader_gone = True
        except EdgeError as err:
            error = err
        lost = sinks.close()
        report = runner.report(camera)
    if quiet or (reader_gone and not signals):  # after `edge-run ... | head -1` nobody is watching
        pass
    elif as_json:
        show_summary_json(console, report, lost)
    elif error is None or report.telemetry.timesteps:  # a source that never came has nothing to sum up
        show_summary(console, report, lost)
    for name, count in lost.items():
        show_error(console, f"{count} events could not be written to {name} and are lost")
    if error is not None:
        raise error
    if signals:
        return 128 + signals[0]
    return SinkError.exit_code if lost else 0


@contextmanager
def _metrics(
    address: tuple[str, int] | None,
    runner: Runner,
    model: Model,
    camera: Any,
    receivers: Sequence[RemoteSink],
) -> Iterator[None]:
    """Serve metrics while the run lasts, if an address is given. Raises SinkError when it cannot be had."""
    if address is None:
        yield
        return
    from edge_runtime.metrics_server import MetricsServer, StreamMetrics

    stream = StreamMetrics(runner.stream, model.protocol.fps, runner.telemetry, camera)
    with closing(MetricsServer(*address, [stream], receivers)):
        yield


def _camera(source: str, settings: Config) -> CameraConfig:
    """The camera that SOURCE means. Its name is empty when the source is its own best name."""
    if source == SAMPLE:
        return _sample()
    configured = settings.camera(source)
    if configured is not None:
        return configured
    plain = re.fullmatch(r"[\w-]+", source) and not re.fullmatch(r"camera\d*|test", source)
    if plain and not Path(source).exists():
        names = [camera.name for camera in settings.cameras]
        known = [*names, SAMPLE, "camera0", "doctor"]
        near = get_close_matches(source, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "give a file, rtsp://..., camera0 or sample"
        file = f" in {settings.path}" if settings.path else ", and there is no edge-run.toml"
        raise ConfigError(f"{source}: no such file, and no camera of that name{file}; {hint}")
    name = Path(source).name if "://" not in source and Path(source).is_file() else ""
    return CameraConfig(name=name, source=source)


def _sample() -> CameraConfig:
    """The clip that comes with the program, with its questions."""
    clip, about = SAMPLES / "sample.mp4", SAMPLES / "sample.json"
    try:
        data = json.loads(about.read_text(encoding="utf-8"))
        queries = data["queries"] if "queries" in data else [data["query"]]
        asks = tuple(Ask(query["text"], float(query["time"])) for query in queries)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise SourceError(
            f"{about}: the sample's question cannot be read ({err!r}); install the program again"
        ) from err
    return CameraConfig(name=SAMPLE, source=str(clip), asks=asks)


def _questions(
    camera: CameraConfig, texts: Sequence[str], times: Sequence[float], policy: dict[str, Any]
) -> tuple[Ask, ...]:
    """What is asked: the command line's questions, else the camera's, under the command line's policy."""
    if len(times) > len(texts):
        raise click.UsageError(
            f"{len(times)} --ask-at for {len(texts)} --ask; each --ask-at belongs to one --ask"
        )
    if any(not text.strip() for text in texts):
        raise click.UsageError("--ask is empty; say what to watch for")
    if texts:
        padded = [*times, *[0.0] * (len(texts) - len(times))]
        asks = tuple(Ask(text, at, camera.policy) for text, at in zip(texts, padded, strict=True))
    else:
        asks = camera.asks
    if not asks:
        raise click.UsageError('nothing to watch for; add --ask "..."')
    return tuple(replace(ask, policy=replace(ask.policy, **policy)) for ask in asks)


def _framing(
    base: Framing,
    masks: tuple[Polygon, ...],
    crop: tuple[float, float, float, float] | None,
    rotate: str | None,
) -> Framing:
    """The camera's framing; masks of the command line come on top, never in place of the camera's."""
    try:
        return Framing(
            (*base.masks, *masks), crop or base.crop, base.rotate if rotate is None else int(rotate)
        )
    except ValueError as err:
        raise click.UsageError(f"{err}") from err


def _source(camera: CameraConfig) -> Any:
    """The parsed source, with the configuration's credentials; a file or device has been looked at."""
    from pipelines import devices, problems, secrets, sources

    source = sources.parse_source(camera.source)
    if camera.user is not None or camera.password_env is not None:
        if not isinstance(source, (sources.RtspSource, sources.HttpSource)):
            raise ConfigError(
                f"camera {camera.name}: user and password_env are for rtsp:// and http:// sources alone"
            )
        password = camera.password()
        secrets.register(password)
        source = replace(source, user=camera.user, password=password)
    if (problem := problems.check_source(source)) is not None:
        raise SourceError(problem.line(source.label), permanent=True)
    if isinstance(source, sources.DeviceSource) and not camera.name:
        # Somebody sits in front of it: say at once that there is no such camera. A configured one may come.
        devices.resolve(source)
    return source


def _identity(source: Any, model: Model) -> str | None:
    """What a recording's event ids are made from; None for what is never the same again."""
    from edge_runtime.events import file_identity
    from pipelines.sources import FileSource, ImagesSource

    if isinstance(source, FileSource):
        return file_identity(source.path, _model_identity(model))
    if isinstance(source, ImagesSource):
        files = [file_identity(path) for path in source.files]
        return file_identity(source.files[0], *files, _model_identity(model))
    return None


def _open(source: Any, model: Model, options: SourceOptions) -> Any:
    from pipelines.camera import CameraOptions, open_camera

    given = {
        "rtsp_transport": options.transport,
        "decoder": options.decoder,
        "connect_timeout_s": options.connect_timeout_s,
        "stall_timeout_s": options.stall_timeout_s,
        "give_up_s": options.give_up_s,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    height, width = model.bundle.model.image_size
    return open_camera(
        source,
        fps=model.protocol.fps,
        size=(width, height),
        options=CameraOptions(framing=options.framing, **chosen),
    )


def _model_identity(model: Model) -> str:
    """Tells models apart: a file's events have the same ids only when the same model made them."""
    hashes = sorted((name, spec.sha256) for name, spec in model.bundle.files.items())
    return json.dumps([hashes, model.protocol.to_dict()], sort_keys=True)


def _hide(secret: str) -> None:
    from pipelines import secrets

    secrets.register(secret)


def scrub(console: Console) -> None:
    """From now on take passwords out of what is shown, where pipelines has any to know of."""
    with suppress(ImportError):
        from pipelines import secrets

        console.scrub = secrets.scrub
