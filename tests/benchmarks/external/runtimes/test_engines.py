"""Engines in processes of their own: what they compute, and what is said of one that is not there."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks.external.runtimes import bandwidth, decode
from benchmarks.external.runtimes.engines.base import EngineSpec, open_engine
from benchmarks.external.runtimes.engines.worker import Worker
from edge_runtime.errors import BackendError, ConfigError

IDS = [int(i) for i in np.random.default_rng(0).integers(5, 300, 60)]


def spec(bundle: Path, rows: int = 100) -> EngineSpec:
    return EngineSpec("ours int8", "ours", bundle, 1, rows)


@pytest.fixture
def worker(tiny_bundle):
    worker = Worker(spec(tiny_bundle))
    yield worker
    worker.close()


def test_a_rewound_cache_goes_on_as_if_nothing_had_been_appended(tiny_bundle, worker):
    engine = open_engine(spec(tiny_bundle))
    expected = engine.feed(IDS[:21]).copy()
    worker.fill(IDS[:20])
    times = worker.time(IDS[30:40], 3)
    assert len(times) == 3 and min(times) > 0
    np.testing.assert_allclose(worker.logits(IDS[:21], 20)[0], expected, atol=0.05)
    once = engine.feed(IDS[50:60]).copy()
    engine.rewind(21)
    np.testing.assert_array_equal(engine.feed(IDS[50:60]), once)
    assert worker.peak_mb() > 10


def test_facts_are_the_bundle_s(tiny_bundle, worker):
    files = ("decoder.onnx", "decoder.weights")
    size = sum(path.stat().st_size for name in files if (path := tiny_bundle / name).is_file())
    assert worker.facts["weight_bytes"] == size
    assert worker.facts["row_bytes"] == 2 * 2 * 2 * 16 * 4  # k and v, layers, heads, width, fp32


def test_a_cache_too_small_is_said_before_anything_runs(tiny_bundle):
    with pytest.raises(BackendError, match="export it with --context-rows 9999"):
        Worker(spec(tiny_bundle, rows=9999))


def test_an_engine_that_is_not_installed_is_named_with_what_brings_it(tiny_bundle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp", None)
    with pytest.raises(ConfigError, match=r"llama\.cpp Q4: .*pip install llama-cpp-python"):
        open_engine(EngineSpec("llama.cpp Q4", "llama.cpp", tiny_bundle, 1, 10))


def test_a_peer_that_fails_is_left_out_and_ours_is_not(tiny_bundle, tmp_path):
    broken = EngineSpec("ours broken", "ours", tmp_path, 1, 10)
    with ExitStack() as stack:
        workers, absent = decode.open_workers([spec(tiny_bundle), broken], stack)
        assert [worker.spec.label for worker in workers] == ["ours int8"]
        assert any(line.startswith("ours broken: not measured") for line in absent)
        assert any("pip install onnxruntime-genai" in line or line.startswith("genai") for line in absent)
    with ExitStack() as stack, pytest.raises(BackendError):
        decode.open_workers([broken], stack)


def test_an_engine_that_died_is_named(worker):
    worker._process.kill()
    worker._process.join()
    for _ in range(2):
        with pytest.raises(BackendError, match="ours int8: its process ended with exit status -9"):
            worker.fill(IDS[:20])


def test_what_an_engine_that_failed_said_is_said_again(worker):
    with pytest.raises(BackendError, match=r"ours int8: .*unheard"):
        worker._ask("unheard")
    worker._process.join()
    with pytest.raises(BackendError, match=r"ours int8: its process ended .* it said: .*unheard"):
        worker.fill(IDS[:20])


def test_bandwidth_is_all_bytes_over_the_best_round(monkeypatch):
    clock = iter((0.0, 0.5, 1.0, 1.25, 2.0, 2.5))  # the second of three rounds takes a quarter of a second
    monkeypatch.setattr(bandwidth, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(bandwidth, "MEGABYTES", 1)
    assert bandwidth.read_gb_per_s(2, rounds=3) == pytest.approx(2 * 1e6 / 0.25 / 1e9)
