"""Known samples give known numbers, and what was not measured says so."""

import json
from dataclasses import replace

import pytest

from benchmarks.latency.bench.load.run import Run
from benchmarks.latency.bench.load.watcher import Sample
from benchmarks.latency.bench.report.statistics import (
    histogram,
    load_facts,
    shares,
    soak,
    stages,
    statistic,
    timeline,
)


def run(latencies_ms, rate=10.0, dropped=()):
    samples = [
        Sample(0, k / rate, k / rate + ms / 1e3, {"queue": ms / 4, "vision": ms * 3 / 4})
        for k, ms in enumerate(latencies_ms)
    ]
    return Run(
        0.0,
        len(latencies_ms) / rate,
        rate,
        1,
        len(samples) + len(dropped),
        samples,
        list(dropped),
        1,
        [(0.5, 100.0), (1.5, 103.0)],
    )


def test_p99_only_of_a_thousand():
    assert statistic([1.0] * 999)["p99"] == "not measured"
    assert statistic([1.0] * 1000)["p99"] == 1.0
    assert statistic([]) == {"n": 0, **dict.fromkeys(("mean", "p50", "p90", "p99", "max"), "not measured")}
    json.dumps(statistic([1.0, 2.0]))


def test_a_histogram_holds_every_value_once():
    values = [0.011, 0.5, 1.0, 9.99, 10.0, 250.0]
    told = histogram(values)
    assert sum(told["counts"]) == 6
    assert len(told["edges_ms"]) == len(told["counts"]) + 1
    assert told["edges_ms"][0] <= 0.011
    assert told["edges_ms"][-1] >= 250.0
    assert histogram([]) == {"edges_ms": [], "counts": []}


def test_stages_add_up_to_the_mean():
    done = run([4.0, 8.0])
    assert stages(done.samples)["vision"] == pytest.approx([3.0, 6.0])
    assert stages(done.samples)["evict"] == []
    assert sum(shares(done.samples).values()) == pytest.approx(6.0)


def test_misses_staleness_and_counts():
    told = load_facts(run([20.0, 150.0, 20.0], dropped=[(0, 0.2)]))
    assert (told["offered"], told["processed"], told["dropped"]) == (4, 3, 1)
    assert (told["deadline_ms"], told["deadline_misses"]) == (100.0, 1)
    # The decision at 250 ms replaces that on the frame of 0 ms, the one at 220 ms that of 100 ms.
    assert told["staleness_ms"]["max"] == 250.0
    assert told["staleness_ms"]["n"] == 2
    assert told["cpu_s_per_stream_hour"] == "not measured"


def test_processor_time_is_told_per_hour_of_one_stream():
    two = replace(run([20.0] * 20), streams=2, cpu_s=0.5)  # two seconds of two streams
    assert load_facts(two)["cpu_s_per_stream_hour"] == 450.0


def test_the_timeline_puts_frames_and_drops_where_they_belong():
    rows = timeline(run([5.0] * 10 + [7.0] * 10, dropped=[(0, 1.25)]))
    assert [row["t_s"] for row in rows] == [0, 1]
    assert [row["p50_ms"] for row in rows] == [5.0, 7.0]
    assert [row["dropped"] for row in rows] == [0, 1]
    assert [row["rss_mb"] for row in rows] == [100.0, 103.0]


def test_a_long_run_keeps_a_short_timeline():
    rows = timeline(run([5.0] * 6000))
    assert len(rows) <= 120
    assert sum(row["processed"] for row in rows) == 6000


def test_the_soak_compares_both_ends():
    told = soak(run([5.0] * 700 + [6.0] * 700, rate=10.0), span_s=60.0)
    assert told["span_s"] == pytest.approx(46.667)
    assert told["last_over_first_p50"] == 1.2
    assert told["rss_growth_mb"] == 3.0
