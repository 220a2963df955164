"""The plan of a bundle's memory, and the refusal of one that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.bundle import memory_plan
from edge_runtime.bundle.manifest import read_bundle
from edge_runtime.bundle.memory_plan import check_memory, memory_findings, plan_of
from edge_runtime.errors import BundleError


@pytest.fixture
def large():
    """nano with the window of a large model."""
    bundle = read_bundle("nano")
    return replace(bundle, model=replace(bundle.model, context_rows=16_000, num_layers=28))


def test_the_cache_is_as_large_as_the_runtime_makes_it() -> None:
    import edge_runtime

    model = edge_runtime.load("nano", threads=1)
    session = model._decoder.open_cache()
    assert plan_of(model.bundle).cache == session._cache.nbytes


def test_weights_are_the_files_of_the_graphs() -> None:
    bundle = read_bundle("nano")
    plan = plan_of(bundle)
    decoder = bundle.path("decoder.onnx").stat().st_size
    assert plan.weights >= decoder + bundle.path("vision.onnx").stat().st_size
    assert plan.fits() == [8, 16, 24]
    assert "fits devices of 8 GB and more" in str(plan)


def test_what_surely_does_not_fit_is_refused_with_the_remedy(large, monkeypatch) -> None:
    plan = plan_of(large)
    monkeypatch.setattr(memory_plan, "free_memory", lambda: plan.weights + plan.cache // 2)
    with pytest.raises(BundleError, match="KV cache") as refused:
        check_memory(large)
    line = str(refused.value)
    assert "--kv int8" in line and "--context-rows 8000" in line and "\n" not in line
    monkeypatch.setattr(memory_plan, "free_memory", lambda: plan.weights + plan.cache)
    check_memory(large)
    with pytest.raises(BundleError, match=r"2 KV caches of .* watch fewer cameras"):
        check_memory(large, sessions=2)
    monkeypatch.setattr(memory_plan, "free_memory", lambda: 1)
    with pytest.raises(BundleError, match="export it with int4 weights"):
        check_memory(large)
    monkeypatch.setattr(memory_plan, "free_memory", lambda: None)
    check_memory(large)


def test_doctor_says_what_fits(monkeypatch) -> None:
    (fine,) = memory_findings("nano")
    assert fine.status == "ok" and "KV cache" in fine.detail
    monkeypatch.setattr(memory_plan, "free_memory", lambda: 1)
    (short,) = memory_findings("nano")
    assert short.status == "fail" and short.remedy
    assert not list(memory_findings("/nowhere"))


def test_a_model_is_not_loaded_when_it_does_not_fit(monkeypatch) -> None:
    import edge_runtime

    monkeypatch.setattr(memory_plan, "free_memory", lambda: 1 << 20)
    with pytest.raises(BundleError, match=r"bundle nano: needs 3\d MB of memory"):
        edge_runtime.load("nano")


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\nfile 200000\n")
    assert memory_plan._container_free(tmp_path) == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_plan._container_free(tmp_path) is None
