"""What a run ends with, on stderr: its figures, of each camera and of all together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_runtime.observability.console import YELLOW, Console, printable

if TYPE_CHECKING:
    from edge_runtime.app.run.runner import RunReport


def summary(report: RunReport, lost: dict[str, int]) -> dict[str, Any]:
    """A run's figures as a JSON object; ``lost`` counts events by the sink that lost them."""
    telemetry = report.telemetry
    return {
        "stream": report.stream,
        "source": report.source,
        "decoder": report.decoder,
        "bundle": report.bundle,
        "engine": report.engine,
        "ended": report.ended,
        "stream_s": round(report.stream_s, 3),
        "wall_s": round(report.wall_s, 3),
        **telemetry.counts(),
        "dropped": report.dropped,
        "reconnects": report.reconnects,
        **({"endpoint": report.requests} if report.requests else {}),
        "never_asked": list(report.never_asked),
        "latency_from": "capture" if report.live else "decoded frame",
        **telemetry.latencies(),
        "stages_ms": {name: histogram.summary() for name, histogram in sorted(telemetry.stages.items())},
        "events_lost": lost,
    }


def show_summary(console: Console, report: RunReport) -> None:
    """A run's figures for people."""
    figures = summary(report, {})
    suppressed = figures["suppressed"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in suppressed.items())
    held_back = f"{sum(suppressed.values())}{f' ({reasons})' if reasons else ''}"
    skipped = f", {figures['skipped']} skipped" if figures["skipped"] else ""
    still = f", {figures['still']} left out: the scene stood still" if figures["still"] else ""
    timed = not report.live and report.wall_s
    speed = f", {report.stream_s / report.wall_s:.1f} times real time" if timed else ""
    lines = {
        "stream": f"{report.stream}: {report.ended or 'failed'}",
        "watched": f"{report.stream_s:g} s in {report.wall_s:.1f} s{speed}",
        "timesteps": f"{figures['timesteps']}{skipped}{still}",
        "responses": f"{figures['responses']}, held back {held_back}",
        f"decision, from {figures['latency_from']}": _latency(figures["decision_ms"]),
        "first text": _latency(figures["first_text_ms"]),
        "dropped frames": f"{report.dropped}",
        **({"reconnects": f"{report.reconnects}"} if report.live else {}),
        **({"requests": _requests(report.requests)} if report.requests else {}),
        "decoder": report.decoder or "none: no frame came",
        "engine": f"{report.engine}; model {report.bundle}",
    }
    console.line("")
    width = max(map(len, lines))
    for name, value in lines.items():
        console.line(f"{name:<{width}}  {printable(value)}")
    for query in report.never_asked:
        console.line(f"{query} was never asked: {_why_never(report)}", style=YELLOW)


def show_summaries(
    console: Console, reports: Sequence[RunReport], lost: dict[str, int], *, as_json: bool
) -> None:
    """The figures of one camera or of several, for people or as one line of JSON."""
    if as_json:
        one = len(reports) == 1
        console.line(json.dumps(summary(reports[0], lost) if one else summary_of_several(reports, lost)))
    elif len(reports) == 1:
        show_summary(console, reports[0])
    else:
        show_summary_of_several(console, reports)


def summary_of_several(reports: Sequence[RunReport], lost: dict[str, int]) -> dict[str, Any]:
    """The figures of several cameras, and their total, as a JSON object."""
    from edge_runtime.observability.telemetry import total

    telemetry = total(report.telemetry for report in reports)
    cameras = [summary(report, {}) for report in reports]
    for camera in cameras:
        del camera["events_lost"]  # the sinks are everybody's
        camera.pop("endpoint", None)  # so is the server
    return {
        "cameras": cameras,
        "total": {
            "wall_s": round(max(report.wall_s for report in reports), 3),
            **telemetry.counts(),
            "dropped": sum(report.dropped for report in reports),
            "reconnects": sum(report.reconnects for report in reports),
            **telemetry.latencies(),
            **({"endpoint": reports[0].requests} if reports[0].requests else {}),
        },
        "events_lost": lost,
    }


_COLUMNS = ("watched", "timesteps", "responses", "held back", "p50", "p99 ms", "dropped", "reconnects")


def show_summary_of_several(console: Console, reports: Sequence[RunReport]) -> None:
    """A line for each camera and one for all."""
    figures = summary_of_several(reports, {})
    rows: list[tuple[str, ...]] = [("stream", *_COLUMNS, "ended")]
    for report, camera in zip(reports, figures["cameras"], strict=True):
        why = report.ended or "failed"
        rows.append((printable(report.stream), f"{report.stream_s:g} s", *_cells(camera), printable(why)))
    rows.append(("total", f"{figures['total']['wall_s']:.1f} s", *_cells(figures["total"]), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    console.line("")
    for name, *cells, why in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        console.line(f"{name:<{widths[0]}}  {numbers}  {why}".rstrip())
    if reports[0].requests:
        console.line(f"requests  {_requests(reports[0].requests)}")
    console.line(f"engine  {printable(f'{reports[0].engine}; model {reports[0].bundle}')}")
    for report in reports:
        for query in report.never_asked if report.ended else ():
            text = f"{report.stream}: {query} was never asked: {_why_never(report)}"
            console.line(printable(text), style=YELLOW)


def _why_never(report: RunReport) -> str:
    if not report.telemetry.timesteps:
        return "no timestep was watched"
    return f"its time lies after {report.stream_s:g} s, where watching ended"


def _cells(figures: dict[str, Any]) -> tuple[str, ...]:
    """The cells under :data:`_COLUMNS`, from the second on."""
    decision = figures["decision_ms"]
    return (
        str(figures["timesteps"]),
        str(figures["responses"]),
        str(sum(figures["suppressed"].values())),
        *(f"{decision[name]:.1f}" if decision["n"] else "-" for name in ("p50", "p99")),
        str(figures["dropped"]),
        str(figures["reconnects"]),
    )


def _requests(counts: dict[str, int]) -> str:
    return (
        f"{counts['requests']:,} to the endpoint, {counts['failed']:,} failed, "
        f"{counts['dropped']:,} windows dropped, {counts['tokens_in']:,} tokens in, "
        f"{counts['tokens_out']:,} out"
    )


def _latency(figures: dict[str, Any]) -> str:
    if not figures["n"]:
        return "none"
    return "  ".join(f"{name} {figures[name]:.1f}" for name in ("p50", "p90", "p99", "max")) + " ms"
