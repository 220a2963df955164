"""The command line: ``edge-run SOURCE`` watches, ``edge-run doctor`` examines the machine.

Events go to stdout, one JSON line each; everything for people goes to stderr. A mistake of the user's ends
with one line on stderr and the exit code of its error (2 usage, 3 model, 4 source, 5 output, 6 engine, 130
Ctrl-C). Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.config import Ask, CameraConfig, Config, find_config
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
from edge_runtime.plugin_command import plugin

if TYPE_CHECKING:
    from edge_runtime.doctor import Decoder
    from edge_runtime.model import Model
    from edge_runtime.sinks import Sink

SAMPLE = "sample"
SAMPLES = Path(__file__).parent / "samples"
DEBUG = "EDGE_RUN_DEBUG"
_TERMINATED = 128 + signal.SIGTERM
_INTERRUPTED = 128 + signal.SIGINT


class Commands(click.Group):
    """A group whose command ``run`` may be left out: ``edge-run camera0`` is ``edge-run run camera0``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("edge-run", "SOURCE [OPTIONS]")
        formatter.write_usage("edge-run", "COMMAND [OPTIONS]", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        run = self.commands["run"]
        records = [param.get_help_record(ctx) for param in run.params if isinstance(param, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            click.echo(f"edge-run {metadata.version('streampro-edge')}")
        except metadata.PackageNotFoundError:
            click.echo("edge-run, from a source tree that is not installed")
        ctx.exit()


class Number(click.FloatRange):
    """A float range that refuses ``nan`` and ``inf``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="The version."
)
def commands() -> None:
    """Watch a video stream and say something when there is something to say.

    \b
    SOURCE is one of
      sample            the clip that comes with the program, with its question
      camera0           the first camera of this machine
      NAME              a camera of edge-run.toml
      /dev/video0       a camera by its device
      rtsp://host/path  a network camera
      clip.mp4          a video file
      test:             a test pattern

    \b
    edge-run sample
    edge-run camera0 --ask "Tell me when someone comes in."
    edge-run clip.mp4 --ask "Tell me each step." --events events.jsonl
    """


@commands.command("run", hidden=True)
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
@click.option("--duration", type=Number(min=0, min_open=True), metavar="SECONDS", help="Stop after so long.")
@click.option(
    "--events", type=click.Path(path_type=Path), metavar="FILE", help="Append the events to this file, too."
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
    duration: float | None,
    events: Path | None,
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
    policy = {
        name: value for name, value in (("threshold", threshold), ("min_gap_s", min_gap)) if value is not None
    }
    questions = _questions(camera, asks, ask_at, policy)
    runtime = replace(
        settings.runtime,
        bundle=bundle or settings.runtime.bundle,
        threads=threads or settings.runtime.threads,
        events=events or settings.runtime.events,
    )
    job = _Job(
        replace(camera, fps=fps or camera.fps, asks=questions), replace(settings, runtime=runtime), duration
    )
    return _watch(job, Console(sys.stderr), as_json=as_json, quiet=quiet)


@commands.command("doctor")
@click.option(
    "--bundle", metavar="NAME|FOLDER", help="The model to examine.  [default: the configuration's, or nano]"
)
@click.option("--config", metavar="FILE", help="Configuration.  [default: ./edge-run.toml, then the user's]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all findings.")
def doctor(bundle: str | None, config: str | None, as_json: bool) -> int:
    """What this machine lacks, and how to mend it.

    The exit code is 1 when something needed is broken.
    """
    from edge_runtime.doctor import broken, examine

    runtime = find_config(config).runtime
    console = Console(sys.stdout)
    findings = []
    for finding in examine(bundle or runtime.bundle, _Video(), threads=runtime.threads):
        findings.append(finding)
        if not as_json:
            colour = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}[finding.status]
            console.line(f"{finding.status:<5} {finding.check}: {finding.detail}", style=colour)
            if finding.remedy:
                console.line(f"      -> {finding.remedy}")
    if as_json:
        report = {"ok": not broken(findings), "findings": [finding.to_dict() for finding in findings]}
        click.echo(json.dumps(report, indent=2))
    return 1 if broken(findings) else 0


commands.add_command(plugin)


def main(args: Sequence[str] | None = None) -> None:
    """The console script. Never returns: the process ends with the command's exit code."""
    code = _main(list(sys.argv[1:] if args is None else args))
    if code == _TERMINATED:
        # End the way the sender of the signal expects; a service manager then sees a clean stop.
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(code)


def _main(args: list[str]) -> int:
    console = Console(sys.stderr)
    try:
        return int(commands.main(args, prog_name="edge-run", standalone_mode=False) or 0)
    except click.ClickException as err:
        message = " ".join(err.format_message().split())
        show_error(console, f"{message.rstrip('.')} (see edge-run --help)")
        return err.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except EdgeError as err:
        _scrub(console)
        show_error(console, str(err))
        return err.exit_code
    except Exception as err:
        _scrub(console)
        if os.environ.get(DEBUG) == "1":
            console.line(traceback.format_exc())
        first = next(iter(str(err).splitlines()), "")
        show_error(
            console,
            f"unexpected {type(err).__name__}: {first}; please report it with what {DEBUG}=1 prints",
        )
        return 1


@dataclass(frozen=True)
class _Job:
    """One camera to watch, and how."""

    camera: CameraConfig
    settings: Config
    duration_s: float | None


def _watch(job: _Job, console: Console, *, as_json: bool, quiet: bool) -> int:
    """Watch until the end; the exit code."""
    import edge_runtime
    from edge_runtime.events import EventMaker, file_identity
    from edge_runtime.runner import Runner, stop_on_signals, with_fps
    from edge_runtime.sinks import FileSink, ReaderGoneError, Sinks, StdoutSink

    source = _source(job.camera)
    _scrub(console)
    runtime = job.settings.runtime
    warn = warner(console)
    # stdout last: when its reader goes away, the file has the event already.
    outputs: list[Sink] = [FileSink(runtime.events, warn)] if runtime.events else []
    sinks = Sinks([*outputs, StdoutSink(warn)])
    display = NoDisplay() if quiet or as_json else LiveDisplay(console)

    model = edge_runtime.load(runtime.bundle, threads=runtime.threads)
    model = with_fps(model, job.camera.fps or model.protocol.fps)
    identity = None if source.live else file_identity(source.path, _model_identity(model))
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
    with stop_on_signals(runner.stop) as signals, _open(source, model) as camera:
        if isinstance(display, LiveDisplay):
            display.questions(job.camera.asks)
        try:
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
    camera: CameraConfig, texts: Sequence[str], times: Sequence[float], policy: dict[str, float]
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


def _source(camera: CameraConfig) -> Any:
    """The parsed source, with the configuration's credentials; a file has been looked at."""
    from pipelines import problems, secrets, sources

    source = sources.parse_source(camera.source)
    if camera.user is not None or camera.password_env is not None:
        if not isinstance(source, sources.RtspSource):
            raise ConfigError(f"camera {camera.name}: user and password_env are for rtsp:// sources alone")
        password = camera.password()
        secrets.register(password)
        source = replace(source, user=camera.user, password=password)
    if isinstance(source, sources.FileSource) and (problem := problems.check_file(source.path)):
        raise SourceError(problem.line(source.label), permanent=True)
    return source


def _open(source: Any, model: Model) -> Any:
    from pipelines.camera import open_camera

    height, width = model.bundle.model.image_size
    return open_camera(source, fps=model.protocol.fps, size=(width, height))


def _model_identity(model: Model) -> str:
    """Tells models apart: a file's events have the same ids only when the same model made them."""
    hashes = sorted((name, spec.sha256) for name, spec in model.bundle.files.items())
    return json.dumps([hashes, model.protocol.to_dict()], sort_keys=True)


def _scrub(console: Console) -> None:
    """From now on take passwords out of what is shown, where pipelines has any to know of."""
    with suppress(ImportError):
        from pipelines import secrets

        console.scrub = secrets.scrub


class _Video:
    """See :class:`edge_runtime.doctor.Video`; here, because only this module may import pipelines."""

    def versions(self) -> dict[str, str]:
        from pipelines.gst import load

        version = load().Gst.version()
        return {
            "GStreamer": ".".join(str(getattr(version, part)) for part in ("major", "minor", "micro")),
            "PyGObject": str(sys.modules["gi"].__version__),
        }

    def decoders(self) -> list[Decoder]:
        from edge_runtime.doctor import Decoder
        from pipelines.decoders import list_decoders

        return [Decoder(info.name, info.codecs, info.hardware, info.proof) for info in list_decoders()]

    def cameras(self) -> list[str]:
        from pipelines.devices import list_cameras

        return [f"{camera.name} ({camera.source})" for camera in list_cameras()]


if __name__ == "__main__":
    main()
