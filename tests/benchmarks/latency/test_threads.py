"""Every setting is measured alone and in company, and the company is gone afterwards."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.latency import threads


def test_table_has_every_setting_under_every_condition(tiny_bundle, tmp_path):
    out = tmp_path / "threads.json"
    arguments = ["--bundle", str(tiny_bundle), "--rounds", "1", "--threads", "2"]
    arguments += ["--neighbours", "0", "--neighbours", "1", "--idle-ms", "0", "--idle-ms", "2"]
    outcome = CliRunner().invoke(threads.main, [*arguments, "--out", str(out)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    rows = json.loads(out.read_text())["rows"]
    assert {(row["neighbours"], row["idle_ms"], row["spinning"]) for row in rows} == {
        (neighbours, idle, spinning)
        for neighbours in (0, 1)
        for idle in (0, 2)
        for spinning in ("run", "never", "always")
    }
    assert all(row["step_ms"]["n"] == threads.STEPS and row["cpu_ms"]["p50"] > 0 for row in rows)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_neighbours_compute_when_woken_and_end_with_the_block():
    with threads.busy(2) as neighbours:
        pids = [process.pid for process in neighbours.processes]
        neighbours.wake(1)
        deadline = time.monotonic() + 10
        while (states := [_state(pid) for pid in pids]) != ["R", "T"] and time.monotonic() < deadline:
            time.sleep(0.01)  # a signal is taken when the process gets a processor
        assert states == ["R", "T"]
    assert not any(map(_exists, pids))


def _state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
