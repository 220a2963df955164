"""What :mod:`benchmarks.external.runtimes.decode` measured, for people: a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLOURS = {"ours": "#1b7f5c", "torch": "#c0504d", "genai": "#4f81bd", "llama.cpp": "#8064a2"}


def render(result: dict[str, Any]) -> RenderableType:
    """One row an engine; milliseconds as p50 (p25..p75), the ratio to the first engine in the same rounds."""
    engines = result["engines"]
    table = Table()
    table.add_column("", no_wrap=True)
    for step in engines[0]["steps"]:
        table.add_column(f"{step['step']} @{step['context']}\nms, ratio", justify="right", no_wrap=True)
    for name in ("decode:\nshare of floor", "KL", "top-1\nagreement", "peak\nMB"):
        table.add_column(name, justify="right", no_wrap=True)
    for engine in engines:
        table.add_row(
            engine["label"],
            *(_step(step) for step in engine["steps"]),
            " ".join(f"{step['share_of_floor']:.2f}" for step in engine["steps"] if step["step"] == "decode"),
            _number(engine["quality"]["kl_mean"], ".2g"),
            _number(engine["quality"]["top1_agreement"], ".1%"),
            _number(engine["peak_rss_mb"], ".0f"),
        )
    versions = sorted({engine["version"] for engine in engines})
    notes = [
        f"{result['threads']} threads, {result['rounds']} rounds, memory at {result['read_gb_per_s']} GB/s",
        ", ".join(versions),
        f"KL and top-1 agreement against {engines[0]['quality']['against'] or 'nothing: no fp32 run'}, "
        f"{result['text']['positions']} positions of {result['text']['file']}",
        *result["absent"],
    ]
    return Group(Text(result["what"], style="bold"), table, *(Text(note, style="dim") for note in notes))


def plot(result: dict[str, Any], path: Path) -> None:
    """Bars of medians with quartiles, one panel a step and context; a tick where the bandwidth floor is."""
    from matplotlib.figure import Figure

    engines = result["engines"]
    count = len(engines[0]["steps"])
    figure = Figure(figsize=(3.2 * count, 0.9 + 0.36 * len(engines)), layout="constrained")
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    labels = [engine["label"] for engine in engines]
    for i, axis in enumerate(axes):
        steps = [engine["steps"][i] for engine in engines]
        medians = [step["ms"]["p50"] for step in steps]
        spread = [
            [step["ms"]["p50"] - step["ms"]["p25"] for step in steps],
            [step["ms"]["p75"] - step["ms"]["p50"] for step in steps],
        ]
        colours = [_COLOURS[engine["kind"]] for engine in engines]
        axis.barh(labels, medians, xerr=spread, color=colours, height=0.65)
        axis.scatter([s["floor_ms"] for s in steps], labels, marker="|", s=120, color="black", zorder=3)
        axis.set_title(f"{steps[0]['step']} at {steps[0]['context']}", fontsize=10)
        axis.set_xlabel("ms (tick: bandwidth floor)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _step(step: dict[str, Any]) -> str:
    ms = step["ms"]
    return f"{ms['p50']:.1f} ({ms['p25']:.1f}..{ms['p75']:.1f}) {step['ratio']['p50']:4.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
