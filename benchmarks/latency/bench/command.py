"""``edge-run bench``: measure, show, write the report; ``edge-run bench compare``: two reports."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.latency.bench.measure import CAMERA_SCHEMES, MAX_RATE, Plan, measure
from benchmarks.latency.bench.report.compare import print_comparison
from benchmarks.latency.bench.report.page import write_page
from benchmarks.latency.bench.report.schema import read_report
from benchmarks.latency.bench.report.table import print_report
from edge_runtime.atomic_write import write_whole
from edge_runtime.backends.select import NAMES
from edge_runtime.backends.spinning import SPINNING
from edge_runtime.command_line.types import Number
from edge_runtime.errors import EdgeError, SinkError

SOAK_S = 600.0
_INTERRUPTED = 130
_PLAN = Plan()


@click.group("bench", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--bundle", metavar="NAME|FOLDER", default=_PLAN.bundle, show_default=True, help="The model.")
@click.option("--backend", type=click.Choice(NAMES), default=_PLAN.backend, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the model.  [default: chosen]")
@click.option(
    "--spinning",
    type=click.Choice(SPINNING),
    default=_PLAN.spinning,
    show_default=True,
    help="When ONNX Runtime's threads poll for work.",
)
@click.option(
    "--window-turns",
    type=click.IntRange(2),
    help="Keep so many turns in the cache: the cost of a smaller context.  [default: the bundle's]",
)
@click.option(
    "--source",
    metavar="world|FILE|rtsp://...",
    default=_PLAN.source,
    show_default=True,
    help="world: the clip that comes with the program. Clips are decoded (FFmpeg, software) as they are "
    "shown, looped, and changed from lap to lap so that no frame comes twice. A camera sets its own pace.",
)
@click.option(
    "--rate",
    type=Number(0, MAX_RATE, min_open=True),
    default=_PLAN.rate,
    show_default=True,
    help="Frames and decisions a second, of each stream.",
)
@click.option("--streams", type=click.IntRange(1, 1024), default=_PLAN.streams, show_default=True)
@click.option(
    "--duration",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="Of the measurement.  [default: 120; with --soak 600]",
)
@click.option("--soak", is_flag=True, help="Measure for ten minutes; compare the first with the last.")
@click.option(
    "--find-max",
    is_flag=True,
    help="Search the highest rate of one stream, and the most streams at --rate, without a drop and with p99 "
    "under the frame interval.",
)
@click.option(
    "--trial",
    type=Number(min=0, min_open=True),
    default=_PLAN.trial_s,
    show_default=True,
    metavar="SECONDS",
    help="Of each load that --find-max tries.",
)
@click.option(
    "--max-streams",
    type=click.IntRange(1, 1024),
    default=_PLAN.max_streams,
    show_default=True,
    help="Where --find-max stops.",
)
@click.option(
    "--speak-every",
    type=click.IntRange(0),
    default=_PLAN.speak_every,
    show_default=True,
    help="Make the model say something at every so-manieth timestep; 0: never.",
)
@click.option(
    "--catch-up",
    type=click.IntRange(0),
    default=_PLAN.catch_up,
    show_default=True,
    help="Frames of each stream that may wait beside the newest, as catch_up in edge-run.toml.",
)
@click.option(
    "--warm-up",
    type=Number(min=0),
    default=_PLAN.warm_up_s,
    show_default=True,
    metavar="SECONDS",
    help="Wait no longer than this for steady times.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write report.json and report.html (self-contained) into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, no table.")
@click.option("--allow-throttling", is_flag=True, help="Do not fail when the machine was throttled.")
@click.pass_context
def bench(ctx: click.Context, **given: Any) -> int:
    """Measure how fast this machine watches: frames come by timetable, whether it keeps up or not.

    The exit code is 1 when the machine was throttled meanwhile, 130 after Ctrl-C (the report of what was
    measured until then is still made).
    """
    if ctx.invoked_subcommand is not None:
        return 0
    plan = _plan(given)
    report_dir: Path | None = given["report"]
    if report_dir is not None:
        _make_folder(report_dir)
    progress = Console(stderr=True)
    with progress.status("starting") as status:
        report = measure(plan, status.update)
    if given["as_json"]:
        click.echo(json.dumps(report, indent=1))
    else:
        print_report(report, Console())
    if report_dir is not None:
        write_whole(report_dir / "report.json", [json.dumps(report, indent=1), "\n"])
        write_page(report_dir / "report.html", report)
        click.echo(f"report: {report_dir / 'report.html'} and report.json", err=True)
    if report["load"]["interrupted"]:
        return _INTERRUPTED
    if report["sensors"]["throttled"] is True and not given["allow_throttling"]:
        raise EdgeError(
            "the machine was throttled while it was measured; cool it and measure again, or pass "
            "--allow-throttling"
        )
    return 0


@bench.command("compare")
@click.argument("a", type=click.Path(path_type=Path), metavar="A.json")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.json")
def compare(a: Path, b: Path) -> int:
    """Compare two reports: B against A, as ratios."""
    print_comparison(read_report(a), read_report(b), Console())
    return 0


def _plan(given: dict[str, Any]) -> Plan:
    """Raises UsageError for options that do not go together."""
    duration = given["duration"] or (SOAK_S if given["soak"] else _PLAN.duration_s)
    if math.ceil(duration * given["rate"]) < 2:
        raise click.UsageError(
            f"--duration {duration:g} at --rate {given['rate']:g} is less than two frames; measure for longer"
        )
    if given["find_max"] and given["source"].startswith(CAMERA_SCHEMES):
        raise click.UsageError("--find-max needs world or a file: a camera sets its own pace")
    return Plan(
        bundle=given["bundle"],
        backend=given["backend"],
        threads=given["threads"],
        spinning=given["spinning"],
        window_turns=given["window_turns"],
        source=given["source"],
        rate=given["rate"],
        streams=given["streams"],
        duration_s=duration,
        speak_every=given["speak_every"],
        catch_up=given["catch_up"],
        warm_up_s=given["warm_up"],
        soak=given["soak"],
        find_max=given["find_max"],
        trial_s=given["trial"],
        max_streams=given["max_streams"],
    )


def _make_folder(folder: Path) -> None:
    """Before anything is measured: minutes of work must not end at a folder that cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".edge-run-bench"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SinkError(
            f"{folder}: reports cannot be written there ({error.strerror}); choose another --report"
        ) from error


if __name__ == "__main__":
    from edge_runtime.command_line.exit import run_command

    run_command(bench)
