"""The choice of a decision threshold from what a model says to annotated questions at several."""

from __future__ import annotations

from typing import Any

import click

GRID = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
FALSE_ALARMS = 0.3
"""Per minute, at most, on questions that nothing answers."""


def best_threshold(found: dict[float, dict[str, Any]], false_alarms: float) -> float:
    """The threshold of the best F1 among those within the limit; the quietest when there is none.

    ``found``: for each threshold what :func:`train.rollout.examination.figures` gives. Raises ClickException
    when the questions cannot tell: all of them are answered, or none.
    """
    some = next(iter(found.values()))
    if "f1" not in some or "false_alarms" not in some:
        raise click.ClickException(
            "the files need questions with answers and questions without; add a file that has the other kind"
        )
    rate = {threshold: one["false_alarms"]["per_minute"] for threshold, one in found.items()}
    within = [threshold for threshold in found if rate[threshold] <= false_alarms]
    if not within:
        return min(found, key=lambda threshold: (rate[threshold], threshold))
    return max(within, key=lambda threshold: found[threshold]["f1"]["W-Avg"])


def describe(figures: dict[str, Any]) -> str:
    """Return F1 and rate of false alarms in words."""
    f1 = figures.get("f1", {}).get("W-Avg", float("nan"))
    rate = figures.get("false_alarms", {}).get("per_minute", float("nan"))
    return f"W-Avg {f1:.1f}, {rate:.2f} false alarms per minute"
