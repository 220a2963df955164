"""Histograms against exact percentiles."""

from __future__ import annotations

import random

import pytest

from edge_runtime.observability.telemetry import Histogram, Telemetry


@pytest.mark.parametrize("count", [1, 2, 10, 5000])
def test_percentiles_are_within_one_percent(count):
    values = [random.Random(count).lognormvariate(3, 1) for _ in range(count)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for percent in (0, 1, 50, 90, 99, 100):
        rank = max(1, -(-count * percent // 100))
        assert histogram.percentile(percent) == pytest.approx(sorted(values)[rank - 1], rel=0.0101)
    assert histogram.summary()["n"] == count
    assert histogram.summary()["max"] == pytest.approx(max(values), abs=0.01)


def test_values_out_of_range_are_counted():
    histogram = Histogram()
    for value in (0.0, -1.0, 1e12):
        histogram.add(value)
    assert histogram.count == 3
    assert histogram.percentile(100) == 1e12
    assert histogram.percentile(0) == pytest.approx(0.01, rel=0.02)  # "no time at all", not exactly


def test_an_empty_histogram_says_so():
    assert Histogram().percentile(50) is None
    assert Histogram().summary() == {"n": 0}


def test_suppressed_responses_are_counted_by_reason():
    telemetry = Telemetry()
    for reason in ("repeat", "min_gap", "repeat"):
        telemetry.suppress(reason)
    assert telemetry.suppressed == {"repeat": 2, "min_gap": 1}
    assert telemetry.counts()["suppressed"] == {"min_gap": 1, "repeat": 2}
