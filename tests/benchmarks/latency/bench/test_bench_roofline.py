"""Bytes and operations are those of the bundle's files and graphs."""

import pytest

from benchmarks.latency.bench.roofline import (
    cache_bytes,
    last_cache_bytes,
    measure_arithmetic,
    measure_bandwidth,
    roofline,
    step_bytes,
    step_flops,
)
from edge_runtime.bundle.manifest import load_bundle


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_bytes_of_a_step(bundle):
    # 2 layers, keys and values, 2 heads of 16, float32: 512 bytes a row.
    told = step_bytes(bundle, bundle.decoder, rows=100, chunk=17)
    assert told["cache_read"] == 100 * 512
    assert told["cache_written"] == 17 * 512
    assert told["embedding"] == 17 * 64 * 2
    files = ("vision.onnx", "decoder.onnx")
    assert told["weights"] == sum(bundle.path(name).stat().st_size for name in files)
    assert told["total"] == sum(value for name, value in told.items() if name != "total")
    assert cache_bytes(bundle, bundle.decoder) == 384 * 512


def test_operations_of_a_step(bundle):
    pytest.importorskip("onnx")
    told = step_flops(bundle, bundle.decoder, rows=100, chunk=10)
    # Width 64: queries 64x64, keys and values 64x32 each, output 64x64, three of 64x128; the vocabulary once.
    layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128
    assert told["decoder"] == 2 * (10 * 2 * layer + 64 * 2048)
    assert told["attention"] == 4 * 10 * 100 * 2 * 64
    # The first convolution of the tiny backbone alone: 16 maps of 56x56 from 3x4x4 pixels.
    assert told["vision"] > 2 * 16 * 56 * 56 * 48


def test_the_floor_is_the_longer_time_and_its_share_follows(bundle):
    told = roofline(bundle, bundle.decoder, 100, 17, measured_ms=2.0, threads=1, cpu=True)
    by_bytes = told["bytes_per_step"]["total"] / told["bandwidth_gb_s"] / 1e6
    assert told["floor_ms"] >= by_bytes * 0.99
    assert told["share_of_floor"] == pytest.approx(told["floor_ms"] / 2.0, rel=0.01, abs=1e-4)
    assert told["achieved_gb_s"] == pytest.approx(told["bytes_per_step"]["total"] / 2e6, rel=0.01)


def test_of_an_accelerator_the_rates_are_not_measured(bundle):
    told = roofline(bundle, bundle.decoder, 100, 17, measured_ms=2.0, threads=1, cpu=False)
    assert {told[key] for key in ("bandwidth_gb_s", "floor_ms", "share_of_floor")} == {"not measured"}


def test_rates_are_those_of_a_computer():
    assert 0.05 < measure_bandwidth(1, repeats=2) < 5000
    assert 0.01 < measure_arithmetic(repeats=2, size=128) < 100_000


def test_the_last_cache(tmp_path):
    for index, size in enumerate(("32K", "1024K", "30M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == 30 << 20
    assert last_cache_bytes(tmp_path / "none") is None
