"""What `streampro` costs the video that passes through it: 1080p, against `identity` and `facedetect`.

    python -m benchmarks.latency.element --bundle nano --out element.json

Each element in turn lets the same synthetic 1080p video pass, several rounds interleaved, so that whatever
else the machine does falls on all. Two figures: the time a buffer spends inside the element (from its input
to its output), and the time from one buffer to the next behind it, with buffers coming at 30 a second.
`streampro` watches with a real model meanwhile; `facedetect` (gstreamer1.0-opencv) is a native element of the
same kind, one that looks at the frame and posts messages; its turns are shorter, as it cannot keep up.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import BackendError

QUERY = "Tell me each step as it is finished."
PEER = "facedetect"
PEER_SECONDS = 3


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", default="nano", show_default=True, help="Bundle name or folder.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(2), default=10, show_default=True, help="Of each turn.")
@click.option("--size", default="1920x1080", show_default=True, metavar="WxH")
@click.option("--fps", type=click.IntRange(1), default=30, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the model.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, rounds: int, seconds: int, size: str, fps: int, threads: int, out: Path | None) -> None:
    import pipelines

    pipelines.register()
    from gi.repository import Gst

    width, _, height = size.partition("x")
    # facedetect works on RGB alone; all get the same.
    caps = f"video/x-raw,format=RGB,width={int(width)},height={int(height)},framerate={fps}/1"
    head = f"pattern=ball ! {caps} ! identity sync=true"
    elements = {"identity": "identity", "streampro": "streampro", PEER: f"{PEER} display=false"}
    if Gst.ElementFactory.find(PEER) is None:
        click.echo(f"{PEER} is missing (apt package gstreamer1.0-opencv): measured without it", err=True)
        del elements[PEER]
    facts = machine_facts()
    inside: dict[str, list[float]] = {name: [] for name in elements}
    between: dict[str, list[float]] = {name: [] for name in elements}
    decisions = 0
    for turn in range(rounds):
        names = list(elements)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            count = fps * (PEER_SECONDS if name == PEER else seconds)
            pipeline = Gst.parse_launch(
                f"videotestsrc num-buffers={count} {head} ! {elements[name]} name=probed ! fakesink"
            )
            probed = pipeline.get_by_name("probed")
            if name == "streampro":
                probed.set_property("bundle", bundle)
                probed.set_property("query", QUERY)
                probed.set_property("threads", threads)
            spent, gaps = _run(Gst, pipeline, probed)
            inside[name] += spent[fps:]  # the first second warms up
            between[name] += gaps[fps:]
            if name == "streampro":
                decisions += probed.get_property("stats").get_value("decided")
            pipeline.set_state(Gst.State.NULL)
    result: dict[str, Any] = {
        "what": f"{size} at {fps} a second, RGB, ms per buffer; first second of each turn left out",
        "machine": facts,
        "gstreamer": Gst.version_string(),
        "bundle": bundle,
        "threads": threads,
        "rounds": rounds,
        "decisions": decisions,
        "inside_ms": {name: summarise(values) for name, values in inside.items()},
        "between_ms": {name: summarise(values) for name, values in between.items()},
    }
    _print(result)
    write_json(out, result)


def _run(gst: Any, pipeline: Any, probed: Any) -> tuple[list[float], list[float]]:
    """Milliseconds inside the element and from buffer to buffer behind it. The probes cost all the same."""
    entered, spent, left = 0.0, [], []

    def on_entry(_pad: Any, _info: Any) -> Any:
        nonlocal entered
        entered = time.perf_counter()
        return gst.PadProbeReturn.OK

    def on_exit(_pad: Any, _info: Any) -> Any:
        now = time.perf_counter()
        spent.append((now - entered) * 1e3)
        left.append(now)
        return gst.PadProbeReturn.OK

    probed.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, on_entry)
    probed.get_static_pad("src").add_probe(gst.PadProbeType.BUFFER, on_exit)
    pipeline.set_state(gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(
        gst.CLOCK_TIME_NONE, gst.MessageType.EOS | gst.MessageType.ERROR
    )
    if message.type == gst.MessageType.ERROR:
        reason = message.parse_error()[0].message
        pipeline.set_state(gst.State.NULL)
        raise BackendError(f"{probed.get_name()}: {reason}; see `edge-run doctor`")
    return spent, [(b - a) * 1e3 for a, b in itertools.pairwise(left)]


def _print(result: dict[str, Any]) -> None:
    click.echo(f"{result['what']}; {result['decisions']} decisions")
    for kind, title in (("inside_ms", "inside the element"), ("between_ms", "buffer to buffer")):
        base = result[kind]["identity"]["p50"]
        click.echo(f"\n{title:<20} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}   p50 / identity")
        for name, row in result[kind].items():
            p99 = f"{row['p99']:8.3f}" if row["p99"] is not None else "       -"
            ratio = row["p50"] / base
            click.echo(
                f"{name:<20} {row['p50']:8.3f} {row['p90']:8.3f} {p99} {row['max']:8.3f}   {ratio:.2f}"
            )


if __name__ == "__main__":
    run_command(main)
