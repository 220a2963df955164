"""The search finds the edge; a load is carried only without drops and with its tail under the interval."""

import pytest

from benchmarks.latency.bench.load.run import Run
from benchmarks.latency.bench.load.search import highest_rate, highest_streams, judge
from benchmarks.latency.bench.load.warm_up import warm_up
from benchmarks.latency.bench.load.watcher import Sample


def run(latencies_ms, rate=10.0, dropped=()):
    samples = [Sample(0, k / rate, k / rate + ms / 1e3) for k, ms in enumerate(latencies_ms)]
    offered = len(samples) + len(dropped)
    return Run(0.0, offered / rate, rate, 1, offered, samples, list(dropped), len(dropped))


@pytest.mark.parametrize("edge", [1, 2, 3, 7, 16, 33, 64])
def test_streams_are_found_exactly(edge):
    tried = []

    def carried(streams):
        tried.append(streams)
        return streams <= edge

    assert highest_streams(carried, 64) == edge
    assert len(tried) == len(set(tried)) <= 13


def test_not_even_one_stream():
    assert highest_streams(lambda streams: False, 64) is None


@pytest.mark.parametrize("edge", [1.0, 9.9, 60.0, 171.0])
def test_the_rate_is_found_to_three_percent(edge):
    found = highest_rate(lambda rate: rate <= edge, 1.0, 1000.0)
    assert edge / 1.03 <= found <= edge


def test_the_search_ends_at_its_limit():
    assert highest_rate(lambda rate: True, 1.0, 240.0) == 240.0


def test_carried_needs_no_drop_and_a_tail_under_the_interval():
    assert judge(run([20.0] * 50)).carried
    assert not judge(run([20.0] * 50, dropped=[(0, 1.0)])).carried
    late = judge(run([20.0] * 49 + [101.0]))
    assert (late.tail, late.carried) == ("max", False)


def test_a_thousand_samples_are_judged_by_their_p99():
    trial = judge(run([20.0] * 1195 + [101.0] * 5))
    assert (trial.tail, trial.tail_ms, trial.carried) == ("p99", 20.0, True)
    assert not judge(run([])).carried


def test_warm_up_goes_on_until_the_medians_agree():
    costs = iter([100.0] * 20 + [50.0] * 20 + [10.0] * 1000)
    told = warm_up(lambda: next(costs), least=1, most_s=60, clock=lambda: 0.0)
    assert (told.steps, told.steady, told.last_medians_ms) == (100, True, (10.0, 10.0, 10.0))


def test_warm_up_fills_the_cache_even_when_it_is_steady_at_once():
    assert warm_up(lambda: 5.0, least=130, most_s=60, clock=lambda: 0.0, done=1).steps == 141


def test_warm_up_gives_up_and_says_so():
    now = 0.0

    def step():
        nonlocal now
        now += 1.0
        return 2.0**now if now < 900 else 1.0

    told = warm_up(step, least=1, most_s=70, clock=lambda: now)
    assert (told.steps, told.steady) == (80, False)
