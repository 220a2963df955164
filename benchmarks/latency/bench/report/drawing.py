"""The report's charts as SVG. Numbers and the project's own stage names go in; colours come from the page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.latency.bench.report.statistics import NOT_MEASURED


def draw_waterfall(shares_ms: Mapping[str, float]) -> str:
    """One bar per stage, each beginning where the one before ended."""
    total = sum(shares_ms.values()) or 1.0
    row, left, width = 24, 100, 780
    height = row * (len(shares_ms) + 1) + 6
    parts, begin = [], 0.0
    for place, (name, value) in enumerate([*shares_ms.items(), ("all", total)]):
        if name == "all":
            begin = 0.0
        x, y = left + begin / total * width, place * row + 4
        long = max(value / total * width, 1.0)
        percent = 100 * value / total
        label = f"{value:.2f} ms" + ("" if name == "all" else f", {percent:.0f} %")
        parts.append(
            f'<text class="axis" x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect class="bar {"sum" if name == "all" else ""}" x="{x:.1f}" y="{y}" width="{long:.1f}" '
            f'height="16"/><text x="{x + long + 6:.1f}" y="{y + 13}">{label}</text>'
        )
        begin += value
    return _svg(left + width + 130, height, "Stage waterfall", parts)


def draw_timeline(rows: Sequence[Mapping[str, Any]], deadline_ms: float) -> str:
    """Median (line) and maximum (dots) over the run, drops at the bottom."""
    measured = [row for row in rows if row["p50_ms"] != NOT_MEASURED]
    if not measured:
        return '<p class="absent">no frame was decided on</p>'
    left, top, width, tall = 60, 10, 920, 200
    end = rows[-1]["t_s"] + (rows[1]["t_s"] - rows[0]["t_s"] if len(rows) > 1 else 1)
    highest = max(row["max_ms"] for row in measured) * 1.08
    shown_deadline = deadline_ms <= highest * 1.5
    if shown_deadline:
        highest = max(highest, deadline_ms * 1.08)

    def x(seconds: float) -> float:
        return left + seconds / end * width

    def y(ms: float) -> float:
        return top + tall * (1 - ms / highest)

    step = (rows[1]["t_s"] - rows[0]["t_s"]) if len(rows) > 1 else 1
    parts = [
        f'<g class="grid"><line x1="{left}" x2="{left + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/></g>'
        f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks(highest)
    ]
    parts += [
        f'<text x="{x(tick):.1f}" y="{top + tall + 34}" text-anchor="middle">{tick:g} s</text>'
        for tick in ticks(end)
    ]
    if shown_deadline:
        parts.append(
            f'<line class="threshold" x1="{left}" x2="{left + width}" y1="{y(deadline_ms):.1f}" '
            f'y2="{y(deadline_ms):.1f}"/>'
        )
    points = " ".join(f"{x(row['t_s'] + step / 2):.1f},{y(row['p50_ms']):.1f}" for row in measured)
    for row in measured:
        where = f'cx="{x(row["t_s"] + step / 2):.1f}"'
        parts.append(
            f'<circle class="most" {where} cy="{y(row["max_ms"]):.1f}" r="2.5"><title>{row["t_s"]} s: '
            f"p50 {row['p50_ms']:g}, max {row['max_ms']:g} ms</title></circle>"
            f'<circle class="bin" {where} cy="{y(row["p50_ms"]):.1f}" r="2.5"/>'
        )
    parts.append(f'<polyline class="curve" points="{points}"/>')
    for row in rows:
        if row["dropped"]:
            parts.append(
                f'<rect class="drop" x="{x(row["t_s"]):.1f}" y="{top + tall + 4}" '
                f'width="{max(1.0, width * step / end - 1):.1f}" height="10">'
                f"<title>{row['t_s']} s: {row['dropped']} dropped</title></rect>"
            )
    parts.append(f'<text x="{left + 4}" y="{top + 4}">ms</text>')
    return _svg(left + width + 20, top + tall + 44, "Timeline of the latency", parts)


def draw_histogram(edges_ms: Sequence[float], counts: Sequence[int]) -> str:
    """Bars on a logarithmic scale."""
    left, top, width, tall = 8, 6, 330, 110
    low, high = math.log10(edges_ms[0]), math.log10(edges_ms[-1])
    most = max(counts)

    def x(ms: float) -> float:
        return left + (math.log10(ms) - low) / (high - low) * width

    parts = []
    for begin, end, count in zip(edges_ms, edges_ms[1:], counts, strict=False):
        if count:
            long = max(1.0, tall * count / most)
            parts.append(
                f'<rect class="bar" x="{x(begin):.1f}" y="{top + tall - long:.1f}" '
                f'width="{max(1.0, x(end) - x(begin) - 0.5):.1f}" height="{long:.1f}">'
                f"<title>{begin:g} to {end:g} ms: {count}</title></rect>"
            )
    parts.append(
        f'<g class="grid"><line x1="{left}" x2="{left + width}" y1="{top + tall}" y2="{top + tall}"/></g>'
    )
    for tick in _decades(edges_ms[0], edges_ms[-1]):
        parts.append(
            f'<g class="grid"><line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top + tall}" '
            f'y2="{top + tall + 4}"/></g>'
        )
        # A label may not reach into those of the two ends, which are about a sixth of the width each.
        if width / 5 < x(tick) - left < width * 4 / 5:
            parts.append(
                f'<text x="{x(tick):.1f}" y="{top + tall + 15}" text-anchor="middle">{_short(tick)} ms</text>'
            )
    for tick, anchor in ((edges_ms[0], "start"), (edges_ms[-1], "end")):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{top + tall + 15}" text-anchor="{anchor}">{_short(tick)} ms</text>'
        )
    return _svg(left + width + 8, top + tall + 20, "Histogram", parts)


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 up to ``highest``, about five."""
    rough = highest / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(step * place, 10) for place in range(int(highest / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """The powers of ten between, of which no more than five are kept."""
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [10.0**power for power in powers[:: max(1, -(-len(powers) // 5))]]


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    inner = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{inner}</svg>'
