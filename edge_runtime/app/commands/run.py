"""``edge-run SOURCE ...``: watch cameras, streams or files, and write an event for each response."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime.app.commands.help import RunCommand
from edge_runtime.app.config_file import TRANSPORTS, find_config, parse_address
from edge_runtime.app.malloc import use_one_arena
from edge_runtime.app.run.run_config import CliOptions, make_run_config
from edge_runtime.app.run.run_spec import RunSpec
from edge_runtime.app.run.watch import watch
from edge_runtime.backends.names import MOST_THREADS, NAMES
from edge_runtime.bundle.default import DEFAULT_BUNDLE
from edge_runtime.command_line.log_options import log_options
from edge_runtime.command_line.types import Number, Parsed
from edge_runtime.config.cameras import MOST_CATCH_UP
from edge_runtime.config.table import MOST
from edge_runtime.observability.console import Console
from edge_runtime.video.fingerprint import parse_fingerprint
from edge_runtime.video.framing import ROTATIONS, parse_crop, parse_polygon
from edge_runtime.video.sampling import LEAST_FPS

SECONDS = Number(min=0, max=MOST)
SOME_SECONDS = Number(min=0, min_open=True, max=MOST)


@click.command("run", cls=RunCommand, hidden=True)
@click.argument("sources", nargs=-1, metavar="SOURCE ...")
@click.option(
    "--ask", "queries", multiple=True, metavar="TEXT", help="What to watch for. May be given again."
)
@click.option(
    "--ask-at",
    "ask_at",
    multiple=True,
    type=SECONDS,
    metavar="SECONDS",
    help="Time at which a question is asked; the first --ask-at belongs to the first --ask.  [default: 0]",
)
@click.option("--ask-anyway", is_flag=True, help="Ask questions that the model was not trained for, too.")
@click.option("--bundle", metavar="NAME|FOLDER", help=f"The model.  [default: {DEFAULT_BUNDLE}]")
@click.option(
    "--endpoint",
    metavar="URL",
    help="An OpenAI-compatible server in place of a bundle, such as http://127.0.0.1:8080/v1.",
)
@click.option("--model", metavar="NAME", help="The model of --endpoint.")
@click.option(
    "--fps",
    type=Number(min=LEAST_FPS, max=60),
    metavar="NUMBER",
    help="Decisions per second.  [default: the model's]",
)
@click.option(
    "--threshold",
    type=Number(0, 1),
    metavar="SCORE",
    help="Score, 0 to 1, from which it responds.  [default: the bundle's]",
)
@click.option(
    "--min-gap", type=SECONDS, metavar="SECONDS", help="Minimum time between two responses.  [default: 0]"
)
@click.option(
    "--mask",
    "masks",
    multiple=True,
    type=Parsed("polygon", parse_polygon),
    metavar='"X,Y X,Y ..."',
    help="Black out a polygon; 0 to 1 across the frame. May be given again.",
)
@click.option(
    "--crop",
    type=Parsed("crop", parse_crop),
    metavar="LEFT,TOP,WIDTH,HEIGHT",
    help="Use only this part; 0 to 1.",
)
@click.option(
    "--rotate", type=click.Choice([str(turn) for turn in ROTATIONS[1:]]), help="Rotate the frame clockwise."
)
@click.option("--transport", type=click.Choice(TRANSPORTS), help="Transport of RTSP.  [default: tcp]")
@click.option(
    "--tls-fingerprint",
    type=Parsed("fingerprint", parse_fingerprint),
    metavar="SHA256",
    help="Accept this certificate of an rtsps or https camera, and no other.",
)
@click.option(
    "--tls-ca-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificates to trust in place of the system's.",
)
@click.option(
    "--tls-verify/--no-tls-verify",
    default=None,
    help="Verify certificates, or accept any.  [default: verify]",
)
@click.option("--decoder", metavar="NAME", help="auto, software or a GStreamer decoder.  [default: auto]")
@click.option("--connect-timeout", type=SOME_SECONDS, metavar="SECONDS", help="Time until the first frame.")
@click.option("--stall-timeout", type=SOME_SECONDS, metavar="SECONDS", help="Longest time between frames.")
@click.option(
    "--give-up",
    type=SECONDS,
    metavar="SECONDS",
    help="End when a live source sends no frame for this long; 0: at its first failure.  [default: never]",
)
@click.option(
    "--still-skip",
    type=SECONDS,
    metavar="SECONDS",
    help="While nothing moves, leave out timesteps for this long at most.  [default: 0, never]",
)
@click.option(
    "--catch-up",
    type=click.IntRange(0, MOST_CATCH_UP),
    metavar="N",
    help="Frames of a live source that may wait beside the newest while the model is busy.  [default: 0]",
)
@click.option("--duration", type=SOME_SECONDS, metavar="SECONDS", help="Stop after this time.")
@click.option(
    "--events", type=click.Path(path_type=Path), metavar="FILE", help="Append the events to this file, too."
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep a snapshot and a clip of each response there.",
)
@click.option(
    "--metrics",
    type=Parsed("address", parse_address),
    metavar="HOST:PORT",
    help="Serve Prometheus metrics and /health there.  [default: off; of a PORT alone, loopback]",
)
@click.option(
    "--web",
    type=Parsed("address", parse_address),
    metavar="[HOST:]PORT",
    help="Serve the live page and the calls there.  [default: off; of a PORT alone, loopback]",
)
@click.option(
    "--web-token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The token that --web asks for; needed unless its HOST is this machine.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write only JSON: events on stdout, also on a terminal, and the summary on stderr.",
)
@click.option("--quiet", is_flag=True, help="Print only responses, warnings and errors.")
@click.option("--config", metavar="FILE", help="Configuration.  [default: ./edge-run.toml, then the user's]")
@click.option(
    "--no-reload", is_flag=True, help="Ignore changes of the configuration file; SIGHUP alone counts."
)
@click.option(
    "--backend",
    type=click.Choice(NAMES),
    metavar="NAME",
    help=f"What runs the model: {', '.join(NAMES)}.  [default: auto]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    metavar="N",
    help="CPU threads of the model.  [default: chosen]",
)
@log_options
def run(duration: float | None, as_json: bool, quiet: bool, no_reload: bool, **options: Any) -> int:
    """Watch each SOURCE and write an event for each response."""
    use_one_arena()
    cli_options = CliOptions.from_click(options)
    settings = find_config(options["config"])
    spec = RunSpec(
        make_run_config(cli_options, settings),
        lambda: make_run_config(cli_options, find_config(settings.path)),
        duration,
        follow_file=not no_reload,
        as_json=as_json,
        quiet=quiet,
    )
    return watch(spec, Console(sys.stderr))
