"""Reconnects to a real RTSP server: three of the hundred that the benchmark does, and a short soak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak import reconnect
from tests.soak.process import Holdings
from tests.soak.rtsp_server import RtspServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.gst
@pytest.mark.slow
def test_three_reconnects(_rtsp_possible: None) -> None:
    with RtspServer() as server:
        result = reconnect.measure(server, 3, down_s=0.2, up_s=0.3, warm_up=0)
    assert result["events_in_order"]
    assert len(result["readings"]) == 3  # it came back each time; how fast is for a quiet machine
    assert result["more_threads"] <= reconnect.MAX_MORE_THREADS
    assert result["more_files"] <= reconnect.MAX_MORE_FILES


def test_what_grows_is_not_passed() -> None:
    def passed(rss: float, threads: int, files: int, *, recovery: float = 1.0, in_order: bool = True) -> bool:
        readings = [Holdings(100 + rss * k, 10 + threads * k, 20 + files * k) for k in range(50)]
        return bool(reconnect._result([recovery] * 50, readings, 10, in_order=in_order)["passed"])

    assert passed(0.005, 0, 0)
    assert not passed(0.02, 0, 0)
    assert not passed(0, 1, 0)
    assert not passed(0, 0, 1)
    assert not passed(0, 0, 0, recovery=3.5)
    assert not passed(0, 0, 0, in_order=False)


@pytest.mark.gst
@pytest.mark.slow
def test_two_cameras_whose_servers_are_killed(
    _rtsp_possible: None, tiny_bundle: Path, tmp_path: Path
) -> None:
    """No event lost or out of order; how fast and how much memory is for a quiet machine."""
    out = tmp_path / "soak.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.soak.cameras", "--cameras", "2", "--minutes", "0.4"),
            *("--kill-every", "4", "--down", "0.5", "--bundle", str(tiny_bundle), "--out", str(out)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(out.read_text())
    assert result["faults"] == []
    assert result["recovery_s"]["n"] >= 1
    assert result["webhook"]["delivered"] == result["events"] > 20
