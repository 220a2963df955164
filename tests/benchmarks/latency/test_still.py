"""``python -m benchmarks.latency.still``: both settings are measured, and fewer decisions cost less."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gst


def test_leaving_out_costs_less(tiny_bundle, tmp_path):
    pytest.importorskip("gi")
    out = tmp_path / "still.json"
    command = [sys.executable, "-m", "benchmarks.latency.still", "--bundle", str(tiny_bundle)]
    quick = ("--rounds", "1", "--seconds", "40", "--size", "320", "240", "--fps", "2")
    done = subprocess.run(
        [*command, *quick, "--still-skip", "0", "--still-skip", "20", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    plain, still = json.loads(out.read_text())["settings"]
    assert (plain["decided"], plain["left_out"]) == (40, 0)
    assert still["decided"] < 8 and still["decided"] + still["left_out"] == 40
    assert plain["cpu_s_per_hour"]["n"] == 1
    assert "beyond decoding" in done.stdout
