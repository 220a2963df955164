"""Two reports side by side: ratios, and how far to believe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.latency.bench.report.statistics import NOT_MEASURED
from benchmarks.latency.quantiles import TAIL_NEEDS


@dataclass(frozen=True)
class Row:
    """One figure of both reports. ``ratio``: b / a; None when either was not measured."""

    name: str
    a: float | str
    b: float | str
    ratio: float | None


def compare(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[Row], list[str]]:
    """The rows, and what to beware of."""
    rows = [
        _row(f"decision {key}, ms", *(report["latency"]["decision_ms"][key] for report in (a, b)))
        for key in ("p50", "p90", "p99", "max")
    ]
    for name in a["stages_ms"]:
        if name in b["stages_ms"]:
            rows.append(_row(f"{name} p50, ms", a["stages_ms"][name]["p50"], b["stages_ms"][name]["p50"]))
    for name, section, key in (
        ("first token p50, ms", "first_token_ms", "p50"),
        ("per token p50, ms", "token_ms", "p50"),
    ):
        rows.append(_row(name, a["latency"][section][key], b["latency"][section][key]))
    rows += [
        _row("load, s", a["cold_start"]["load_s"], b["cold_start"]["load_s"]),
        _row("peak memory, MB", a["memory"]["rss_mb_peak"], b["memory"]["rss_mb_peak"]),
        _row("dropped", a["load"]["dropped"], b["load"]["dropped"]),
        _row("deadline misses", a["load"]["deadline_misses"], b["load"]["deadline_misses"]),
    ]
    return rows, _warnings(a, b, rows[0].ratio)


def noise(report: dict[str, Any]) -> float | None:
    """Half the spread of the middle half of the timeline's medians, as a share of their median: what a figure
    moves by itself within one run. None with fewer than four points.
    """
    medians = [row["p50_ms"] for row in report["timeline"] if row["p50_ms"] != NOT_MEASURED]
    if len(medians) < 4:
        return None
    low, middle, high = np.percentile(medians, [25, 50, 75])
    return float((high - low) / 2 / middle)


def print_comparison(a: dict[str, Any], b: dict[str, Any], console: Console) -> None:
    rows, warnings = compare(a, b)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("A", "B", "B / A"):
        table.add_column(column, justify="right")
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, _cell(row.a), _cell(row.b), ratio)
    console.print(table)
    for warning in warnings:
        console.print(f"beware: {escape(warning)}", style="yellow", highlight=False)


def _row(name: str, a: float | str, b: float | str) -> Row:
    known = not isinstance(a, str) and not isinstance(b, str) and a > 0
    return Row(name, a, b, float(b) / float(a) if known else None)


def _warnings(a: dict[str, Any], b: dict[str, Any], ratio: float | None) -> list[str]:
    notes = []
    facts = {
        "device": lambda r: r["device"].get("device") or r["device"].get("processor"),
        "cores": lambda r: r["device"].get("cores"),
        "engine": lambda r: r["engine"],
        "model": lambda r: (
            r["model"]["name"],
            r["model"]["precision"],
            r["model"]["sha256_of_manifest"][:12],
        ),
        "source": lambda r: r["settings"]["source"],
        "rate and streams": lambda r: (r["settings"]["rate"], r["settings"]["streams"]),
        "turns in the window": lambda r: r["settings"].get("window_turns", NOT_MEASURED),
        "threads": lambda r: r["settings"]["threads"],
        "clock of the latency": lambda r: r["latency"]["clock"],
    }
    for name, read in facts.items():
        if read(a) != read(b):
            notes.append(f"different {name}: {_words(read(a))} and {_words(read(b))}")
    for label, report in (("A", a), ("B", b)):
        n = report["latency"]["decision_ms"]["n"]
        if n < TAIL_NEEDS:
            notes.append(f"{label} has {n} decisions: p90 and max are few values, p99 is not measured")
        notes += [
            f"{label}: {remark}" for remark in report["remarks"] if "busy" in remark or "steady" in remark
        ]
        if report["sensors"]["throttled"] is True:
            notes.append(f"{label} was measured on a throttled machine")
        if report["load"]["dropped"]:
            notes.append(f"{label} dropped frames: its latencies are those of an overloaded machine")
    spreads = [spread for spread in (noise(a), noise(b)) if spread is not None]
    if len(spreads) < 2:
        notes.append("too short to tell noise from change; measure both for longer")
    elif ratio is not None and abs(ratio - 1) <= sum(spreads):
        notes.append(
            f"the p50 ratio {ratio:.2f} lies within the noise of the two runs (+-{100 * sum(spreads):.0f} %)"
        )
    return notes


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
