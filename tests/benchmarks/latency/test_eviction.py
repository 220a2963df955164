"""The benchmark of evictions runs, and refuses sizes that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.latency.eviction import main


def test_every_setting_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "eviction.json"
    result = CliRunner().invoke(main, ["--rows", "384", "--block", "128", "--rounds", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    settings = json.loads(out.read_text())["settings"]
    names = ["float32", "float32 M-RoPE", "float32 near", "float32 copy"]
    assert list(settings)[:4] == names and len(settings) == 12
    assert all(
        clocks["elapsed_ms"]["p50"] > 0 and clocks["elapsed_ms"]["n"] == 2 for clocks in settings.values()
    )


def test_a_bundles_own_cache(tiny_bundle_fp32: Path) -> None:
    arguments = ["--bundle", str(tiny_bundle_fp32), "--rows", "384", "--rounds", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and result.output.startswith("bundle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "300", "--block", "240"], "fewer than 236 of 300 rows"),
        (["--bundle", "nano", "--rows", "100000"], "the cache of nano has"),
    ],
)
def test_sizes_that_cannot_be(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and message in result.output
