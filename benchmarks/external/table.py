"""A peer's metric for people and for machines: one row for the predictions, one for each trivial baseline."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge_runtime.atomic_write import write_whole

Scores = dict[str, float | None]
"""Value of each column; None where there is nothing to measure."""


@dataclass(frozen=True)
class MetricReport:
    """A metric of one set of predictions.

    ``metric`` names the number and whose it is; ``columns`` gives each column its unit: "points" (of 100,
    from values in [0, 1]) or "s". ``items`` holds what the score is made of, for the JSON file only.
    """

    metric: str
    columns: dict[str, str]
    predictions: Scores
    baselines: dict[str, Scores]
    notes: tuple[str, ...] = ()
    items: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; scores of unit "points" are in [0, 1] here."""
        return {
            "metric": self.metric,
            "columns": self.columns,
            "predictions": self.predictions,
            "baselines": self.baselines,
            "notes": list(self.notes),
            "items": list(self.items),
        }


def render(report: MetricReport) -> RenderableType:
    """The table and its notes for a terminal."""
    table = Table()
    table.add_column("", no_wrap=True)
    for name, unit in report.columns.items():
        table.add_column(name if unit == "points" else f"{name} ({unit})", justify="right", no_wrap=True)
    table.add_row("predictions", *_cells(report, report.predictions), style="bold")
    for name, scores in report.baselines.items():
        table.add_row(name, *_cells(report, scores))
    return Group(
        Text(report.metric, style="bold"), table, *(Text(note, style="dim") for note in report.notes)
    )


def write_json(path: Path, report: MetricReport) -> None:
    """Everything a report holds. Raises SinkError."""
    write_whole(path, [json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False), "\n"])


def mean(values: Iterable[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None


def missing_note(names: list[str], total: int, what: str = "questions") -> tuple[str, ...]:
    """A line about questions without predictions, if there are any."""
    if not names:
        return ()
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (f"{len(names)} of {total} {what} have no prediction and count as never answered: {some}",)


def _cells(report: MetricReport, scores: Scores) -> list[str]:
    return [_cell(scores[name], unit) for name, unit in report.columns.items()]


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}" if unit == "points" else f"{value:.2f}"
