"""The command line: ``edge-run SOURCE`` watches, ``edge-run doctor`` examines the machine.

Events go to stdout, one JSON line each, unless stdout is a terminal; everything for people goes to stderr. A
mistake of the user's ends with one line on stderr and the exit code of its error (2 usage, 3 model, 4 source,
5 output, 6 engine, 130 Ctrl-C). Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import click

from edge_runtime.app.commands.check import check
from edge_runtime.app.commands.help import Commands
from edge_runtime.app.commands.init import init
from edge_runtime.app.commands.models import models
from edge_runtime.app.commands.plugin import plugin
from edge_runtime.app.commands.pull import pull
from edge_runtime.app.commands.questions import questions
from edge_runtime.app.commands.run import run
from edge_runtime.app.config_file import find_config
from edge_runtime.app.hide_arguments import hide_passwords
from edge_runtime.backends.names import NAMES
from edge_runtime.backends.no_telemetry import ignore_desktop_settings
from edge_runtime.bundle.default import DEFAULT_BUNDLE
from edge_runtime.command_line.log_options import log_options
from edge_runtime.config.endpoint import EndpointConfig
from edge_runtime.errors import ConfigError, EdgeError, first_line
from edge_runtime.observability.console import Console
from edge_runtime.observability.log import logging_to

if TYPE_CHECKING:
    from edge_runtime.app.doctor import Decoder

__all__ = ["commands", "main"]

_log = logging.getLogger(__name__)

DEBUG = "EDGE_RUN_DEBUG"
_TERMINATED = 128 + signal.SIGTERM
_INTERRUPTED = 128 + signal.SIGINT


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            click.echo(f"edge-run {metadata.version('streampro-edge')}")
        except metadata.PackageNotFoundError:
            click.echo("edge-run, from a source tree that is not installed")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def commands() -> None:
    """Watch video streams and respond to questions at the right moment."""


@commands.command("doctor")
@click.option(
    "--bundle",
    metavar="NAME|FOLDER",
    help=f"The model to examine.  [default: the configuration's, or {DEFAULT_BUNDLE}]",
)
@click.option(
    "--backend",
    type=click.Choice(NAMES),
    metavar="NAME",
    help=f"Backend to examine: {', '.join(NAMES)}.  [default: the configuration's]",
)
@click.option("--config", metavar="FILE", help="Configuration.  [default: ./edge-run.toml, then the user's]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all findings.")
@log_options
def doctor(bundle: str | None, backend: str | None, config: str | None, as_json: bool) -> int:
    """Show what this machine has, what is missing and how to fix it.

    The exit code is 1 when something needed is broken.
    """
    from edge_runtime.app.doctor import broken, examine

    settings = find_config(config)
    if bundle is not None:
        settings = replace(settings, endpoint=EndpointConfig())
    runtime = settings.runtime
    console = Console(sys.stdout)
    findings = []
    examined = examine(
        bundle or runtime.bundle,
        _Video(),
        threads=runtime.threads,
        backend=backend or runtime.backend,
        config=settings,
        spinning=runtime.spinning,
    )
    for finding in examined:
        findings.append(finding)
        if not as_json:
            colour = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}[finding.status]
            console.line(f"{finding.status:<5} {finding.subject}: {finding.detail}", style=colour)
            if finding.remedy:
                console.line(f"      -> {finding.remedy}")
    if as_json:
        shown = [
            {"check": one.subject, "status": one.status, "detail": one.detail, "remedy": one.remedy}
            for one in findings
        ]
        report = {"ok": not broken(findings), "findings": shown}
        click.echo(json.dumps(report, indent=2))
    return 1 if broken(findings) else 0


@commands.command(
    "bench",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> int:
    """Measure the latency on this machine, or compare reports."""
    try:
        from benchmarks.latency.bench.command import bench as command
    except ImportError as err:
        missing = (err.name or "a package").partition(".")[0]
        raise ConfigError(f"bench: {missing} is not installed; pip install 'streampro-edge[bench]'") from err
    return int(command.main(list(arguments), prog_name="edge-run bench", standalone_mode=False) or 0)


commands.add_command(run)
commands.add_command(check)
commands.add_command(init)
commands.add_command(plugin)
commands.add_command(questions)
commands.add_command(pull)
commands.add_command(models)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command. Never returns: the process ends with the command's exit code."""
    try:
        code = _main(list(sys.argv[1:] if args is None else args))
    except KeyboardInterrupt:  # while an error was being logged
        code = _INTERRUPTED
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the interpreter's end would print a traceback
    if code == _TERMINATED:
        # End the way the sender of the signal expects; a service manager then sees a clean stop.
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(code)


def _main(args: list[str]) -> int:
    console = Console(sys.stderr)
    ignore_desktop_settings()
    hide_passwords(args)
    with logging_to(console):
        return _run(args, console)


def _run(args: list[str], console: Console) -> int:
    try:
        return int(commands.main(args, prog_name="edge-run", standalone_mode=False) or 0)
    except click.ClickException as err:
        message = " ".join(err.format_message().split())
        _log.error("%s (see edge-run --help)", message.rstrip("."))
        return err.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except EdgeError as err:
        _log.error("%s", err)
        return err.exit_code
    except Exception as err:
        if os.environ.get(DEBUG) == "1":
            console.line(traceback.format_exc())
        message = "unexpected %s: %s; please report it with what %s=1 prints"
        _log.error(message, type(err).__name__, first_line(err), DEBUG)
        return 1


class _Video:
    """See :class:`edge_runtime.app.doctor.Video`; here, because only this module may import pipelines."""

    def versions(self) -> dict[str, str]:
        from pipelines.gst import load

        version = load().Gst.version()
        return {
            "GStreamer": ".".join(str(getattr(version, part)) for part in ("major", "minor", "micro")),
            "PyGObject": str(sys.modules["gi"].__version__),
        }

    def decoders(self) -> list[Decoder]:
        from edge_runtime.app.doctor import Decoder
        from pipelines.pipeline.decoding.decoders import list_decoders

        return [Decoder(info.name, info.codecs, info.hardware, info.probe) for info in list_decoders()]

    def encoder(self) -> str:
        from pipelines.evidence.mp4 import encoder

        return encoder()

    def cameras(self) -> list[str]:
        from pipelines.sources.v4l2.devices import list_cameras

        return [f"{camera.name} ({camera.source})" for camera in list_cameras()]


if __name__ == "__main__":
    main()
