"""The report's charts as SVG by matplotlib, in colours that can be read on light and dark pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.latency.bench.report.statistics import NOT_MEASURED

_BAR, _TOTAL, _DROP, _INK = "#2a7d9c", "#c2721d", "#c0392b", "#808a93"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_waterfall(shares_ms: Mapping[str, float]) -> str:
    """Draw one bar per stage, each beginning where the one before ended."""
    total = sum(shares_ms.values()) or 1.0
    names, widths = [*shares_ms, "all"], [*shares_ms.values(), total]
    starts = [sum(widths[:place]) for place in range(len(shares_ms))] + [0.0]
    labels = [f"{width:.2f} ms, {100 * width / total:.0f} %" for width in widths[:-1]] + [f"{total:.2f} ms"]
    with matplotlib.rc_context(_STYLE):
        figure, axis = _figure(10, 0.3 * len(names) + 0.5)
        bars = axis.barh(names, widths, left=starts, color=[_BAR] * len(shares_ms) + [_TOTAL])
        axis.bar_label(bars, labels, padding=4, fontsize=9)
        axis.set(xlim=(0, 1.15 * total), xlabel="ms")
        axis.invert_yaxis()
        return _svg(figure, "Stage waterfall")


def draw_timeline(rows: Sequence[Mapping[str, Any]], deadline_ms: float) -> str:
    """Draw median (line) and maximum (dots) over the run, drops at the bottom."""
    measured = [row for row in rows if row["p50_ms"] != NOT_MEASURED]
    if not measured:
        return '<p class="absent">no frame was decided on</p>'
    step = rows[1]["t_s"] - rows[0]["t_s"] if len(rows) > 1 else 1
    times = [row["t_s"] + step / 2 for row in measured]
    highest = max(row["max_ms"] for row in measured)
    with matplotlib.rc_context(_STYLE):
        figure, axis = _figure(10, 2.6)
        axis.plot(
            times, [row["p50_ms"] for row in measured], marker="o", markersize=3, color=_BAR, label="p50"
        )
        maxima = [row["max_ms"] for row in measured]
        axis.plot(times, maxima, "o", markersize=3, color=_TOTAL, label="max")
        if deadline_ms <= highest * 1.5:
            axis.axhline(deadline_ms, color=_INK, linestyle="--", label="frame interval")
        if dropped := [row["t_s"] for row in rows if row["dropped"]]:
            low = [(time, step) for time in dropped]
            axis.broken_barh(
                low, (0, 0.03), transform=axis.get_xaxis_transform(), color=_DROP, label="dropped"
            )
        axis.set(xlim=(0, rows[-1]["t_s"] + step), ylabel="ms", xlabel="s")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8, frameon=False, loc="upper right", ncols=4)
        return _svg(figure, "Timeline of the latency")


def draw_histogram(edges_ms: Sequence[float], counts: Sequence[int]) -> str:
    """Draw bars on a logarithmic scale."""
    with matplotlib.rc_context(_STYLE):
        figure, axis = _figure(3.6, 1.5)
        axis.stairs(counts, edges_ms, fill=True, color=_BAR)
        axis.set(xscale="log", xlim=(edges_ms[0], edges_ms[-1]), xlabel="ms", yticks=[])
        axis.spines["left"].set_visible(False)
        return _svg(figure, "Histogram")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, label: str) -> str:
    """Return an image element with the SVG in it: the page's policy forbids styles that are not its own."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return f'<img class="chart" alt="{label}" src="data:image/svg+xml;base64,{data}">'
