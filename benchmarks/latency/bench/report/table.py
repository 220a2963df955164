"""A report as a table on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.latency.bench.report.statistics import NOT_MEASURED

_COLUMNS = ("n", "mean", "p50", "p90", "p99", "max")


def print_report(report: dict[str, Any], console: Console) -> None:
    model, settings, load = report["model"], report["settings"], report["load"]
    console.print(
        escape(
            f"{model['name']} {model['precision']}, {report['engine']}, "
            f"{report['device'].get('device') or report['device'].get('processor') or 'unknown device'}"
        ),
        style="bold",
        highlight=False,
    )
    console.print(
        escape(
            f"{settings['source']}, {settings['streams']} x {settings['rate']:g} fps for "
            f"{settings['duration_s']:g} s; frame to decision: {report['latency']['clock']}"
        ),
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("milliseconds", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    rows = {
        "frame to decision": report["latency"]["decision_ms"],
        **{f"  {name}": row for name, row in report["stages_ms"].items()},
        "frame to first token": report["latency"]["first_token_ms"],
        "per further token": report["latency"]["token_ms"],
        "staleness": load["staleness_ms"],
    }
    for name, row in rows.items():
        style = "bold" if name == "frame to decision" else None
        cells = ["-" if row[column] == NOT_MEASURED else _cell(row[column]) for column in _COLUMNS]
        table.add_row(name, *cells, style=style)
    console.print(table)
    console.print("-: not measured", style="dim", highlight=False)
    for name, text in facts(report):
        console.print(f"{name + ':':<16} {escape(text)}", highlight=False)
    for remark in report["remarks"]:
        console.print(f"note: {escape(remark)}", style="yellow", highlight=False)


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What else a reader asks for, in words."""
    load, memory, context = report["load"], report["memory"], report["context"]
    roof, cold, warm = report["roofline"], report["cold_start"], report["warm_up"]
    sensors, maximum, soak = report["sensors"], report["maximum"], report["soak"]
    steady = "steady" if warm["steady"] else "not steady"
    rows = [
        (
            "frames",
            f"{load['offered']} offered, {load['processed']} processed, {load['dropped']} dropped (longest "
            f"run {load['longest_drop_run']}), {load['deadline_misses']} decided later than "
            f"{load['deadline_ms']:g} ms",
        ),
        (
            "processor time",
            f"{_with(load.get('cpu_s_per_stream_hour', 'not measured'), 's')} per hour of one stream",
        ),
        ("cold start", f"load {cold['load_s']:.2f} s, first timestep {cold['first_timestep_ms']:.1f} ms"),
        ("warm-up", f"{warm['steps']} timesteps, {warm['seconds']:.1f} s, {steady}"),
        (
            "memory",
            f"peak {_with(memory['rss_mb_peak'], 'MB')}, cache {memory['cache_mb_per_stream']:g} MB a "
            f"stream, {context['capacity_rows']} rows, {max(context['rows_at_start'])} in use at the start, "
            f"{max(context['rows_at_end'])} at the end",
        ),
        (
            "roofline",
            f"{roof['bytes_per_step']['total'] / 1e6:.1f} MB a timestep, floor "
            f"{_with(roof['floor_ms'], 'ms')} by {roof['floor_by']}, both graphs "
            f"{_with(roof['measured_ms'], 'ms')}, floor / measured {_percent(roof['share_of_floor'])}",
        ),
        ("temperature", _range(sensors["temperature_c"], "C")),
        ("clock", _range(sensors["cpu_mhz"], "MHz")),
        ("throttled", {True: "yes", False: "no"}.get(sensors["throttled"], NOT_MEASURED)),
    ]
    if maximum != NOT_MEASURED:
        text = (
            f"{maximum['rate_one_stream'] or 'not even 1'} fps on one stream; "
            f"{maximum['streams_at_rate'] or 'not even 1'} streams at {report['settings']['rate']:g} fps"
        )
        rows.append(("highest load", text))
    if soak != NOT_MEASURED:
        text = (
            f"p50 of the last {soak['span_s']:g} s / first: {_cell(soak['last_over_first_p50'])}, memory "
            f"grew by {_with(soak['rss_growth_mb'], 'MB')}"
        )
        rows.append(("soak", text))
    return rows


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _with(value: float | str, unit: str) -> str:
    return value if isinstance(value, str) else f"{value:.4g} {unit}"


def _percent(value: float | str) -> str:
    return value if isinstance(value, str) else f"{100 * value:.0f} %"


def _range(row: dict[str, float] | str, unit: str) -> str:
    return row if isinstance(row, str) else f"{row['min']:g} to {row['max']:g} {unit}"
