"""What :mod:`benchmarks.external.runtimes.stream` measured, for people: a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLOURS = {"ours": "#1b7f5c", "torch, growing cache": "#c0504d", "torch, polling": "#d99a2b"}
_OTHER = "#4f81bd"


def render(result: dict[str, Any]) -> RenderableType:
    """One row a position: medians in ms and, behind each but ours, how many times ours it is."""
    names = _names(result)
    table = Table()
    for name in ("on stream", "rows, ours", "rows, growing", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for position in result["positions"]:
        ours = position["ms"]["ours"]["p50"]
        cells = []
        for name in names:
            summary = position["ms"].get(name)
            if summary is None:
                cells.append("not measured")
            elif name == "ours":
                cells.append(f"{ours:.1f}")
            else:
                cells.append(f"{summary['p50']:.0f}  x{summary['p50'] / ours:.1f}")
        grown = position["torch_rows"]
        beyond = "*" if grown and grown > result["trained_positions"] else ""
        table.add_row(
            f"{position['seconds']:.0f} s",
            str(position["ours_rows"]),
            "-" if grown is None else f"{grown}{beyond}",
            *cells,
        )
    every = result["ours_all"]
    notes = [
        f"{result['bundle']['name']} {result['bundle']['precision']}, {result['threads']} threads, p50 in ms",
        f"ours over all {every['n']} timesteps: p50 {every['p50']}, p99 {every['p99'] or 'not measured'}",
        f"* beyond the {result['trained_positions']} positions the model was made for: "
        "what it would cost, not a model that works",
        f"polling looks at the last {result['window_turns']} frames; "
        "prefilling is the decoder alone, without vision, over as many rows",
        *result["absent"],
    ]
    return Group(Text(result["what"], style="bold"), table, *(Text(note, style="dim") for note in notes))


def plot(result: dict[str, Any], path: Path) -> None:
    """Medians against time on stream, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for name in _names(result):
        points = [p for p in result["positions"] if name in p["ms"]]
        axis.plot(
            [point["seconds"] for point in points],
            [point["ms"][name]["p50"] for point in points],
            marker="o",
            markersize=4,
            color=_COLOURS.get(name, _OTHER),
            linewidth=2.4 if name == "ours" else 1.4,
            label=name,
        )
    axis.set(xscale="log", yscale="log", xlabel="seconds on stream", ylabel="ms from frame to decision (p50)")
    axis.set_title(f"{result['bundle']['name']}, {result['threads']} CPU threads", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, which="both")
    axis.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _names(result: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for position in result["positions"] for name in position["ms"]))
