"""What a comparison found, as JSON and as Markdown: means over seeds with their spread."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.metric.tasks import TASKS
from edge_runtime.atomic_write import write_whole
from train.ablation.plan import Comparison, mean_and_spread

Results = Sequence[dict[str, Any]]


def write_report(out: Path, comparison: Comparison, results: Results) -> str:
    """Write ``results.json`` and ``results.md`` into ``out``; returns the Markdown. Raises SinkError."""
    text = markdown(comparison, results)
    data = {"comparison": comparison.to_dict(), "trials": list(results)}
    write_whole(out / "results.json", [json.dumps(data, indent=2) + "\n"])
    write_whole(out / "results.md", [text])
    return text


def markdown(comparison: Comparison, results: Results) -> str:
    """A table for each test: an arm a row, mean +- sample standard deviation over its seeds."""
    parts = []
    for test in comparison.tests:
        rows = dict(_rows(comparison, results, test.name))
        if not rows:
            continue
        questions = next(iter(rows.values()))[0]["questions"]
        parts.append(f"### {test.name} ({questions} questions of {test.path})\n\n{_table(rows)}")
    steps = {r["recipe"]["run"]["steps"] for r in results if r["recipe"]}
    note = "Mean ± standard deviation over seeds; StreamPro-F1 in points, exact answers."
    if steps:
        note += f" {max(steps)} steps a run."
    return "\n\n".join([*parts, note]) + "\n"


def _rows(comparison: Comparison, results: Results, test: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(name of the row, the figures of each seed in order of seeds)."""
    for arm in [*comparison.checkpoints, *comparison.arms]:
        mine = sorted((r for r in results if r["arm"] == arm), key=lambda r: r["seed"] or 0)
        thresholds = list(dict.fromkeys(t for r in mine for t in r["tests"].get(test, {})))
        for threshold in thresholds:
            name = arm if len(thresholds) == 1 else f"{arm}, threshold {threshold}"
            yield name, [r["tests"][test][threshold] for r in mine if threshold in r["tests"][test]]


def _table(rows: dict[str, list[dict[str, Any]]]) -> str:
    every = [figures for row in rows.values() for figures in row]
    tasks = [task for task in TASKS if any(task in f.get("f1", {}) for f in every)]
    head, columns = ["", "runs"], []
    if any("W-Avg" in f.get("f1", {}) for f in every):
        head += ["W-Avg", *tasks, "responses per answer"]
        columns += [("f1", name, 1) for name in ("W-Avg", *tasks)]
        columns.append(("responses_per_answer", "", 2))
    if any("false_alarms" in f for f in every):
        head += ["false alarms per minute"]
        columns.append(("false_alarms", "per_minute", 2))
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for name, row in rows.items():
        cells = [name, str(len(row))]
        for group, key, digits in columns:
            values = [f[group][key] if key else f[group] for f in row if group in f]
            cells.append(_cell(values, digits))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")
