"""Nothing is lost while a webhook is away and the process gets SIGKILL; the short form of the soak."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from edge_runtime.errors import SourceError
from tests.soak import delivery
from tests.soak.delivery import EdgeRun, measure, passed


@pytest.mark.slow
@pytest.mark.gst
def test_every_event_arrives_although_the_process_is_killed(tiny_bundle, tmp_path):
    pytest.importorskip("gi")
    result = measure(tmp_path, str(tiny_bundle), down_s=9, kills=2, fps=5)
    assert passed(result), result
    # Each of the three starts up to then has printed something, however busy the machine is.
    assert result["sigkill"] == 3 and result["waiting_when_back"] >= 3, result
    assert result["distinct"] >= result["events_printed"], result


def test_what_is_missing_or_out_of_order_is_no_pass():
    clean = {"missing": 0, "out_of_order": 0, "wrongly_signed": 0}
    assert passed(clean)
    assert not any(passed({**clean, key: 1}) for key in clean)


@pytest.fixture
def programs(monkeypatch):
    """Every process that is started."""
    found: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def record(*arguments, **options):
        found.append(start(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", record)
    return found


def test_one_that_does_not_start_is_not_left_behind(tmp_path, monkeypatch, programs):
    monkeypatch.setattr(delivery, "_START_S", 0.0)
    with pytest.raises(SourceError, match="edge-run does not start"):
        measure(tmp_path, "nano", down_s=1, kills=0, fps=5)
    assert [program.poll() for program in programs] == [-signal.SIGKILL]


def test_one_that_does_not_end_is_said_in_one_line(tmp_path, monkeypatch, programs):
    monkeypatch.setattr(delivery, "_END_S", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += 'print(\'{"id": "1"}\', flush=True); time.sleep(600)'
    program = EdgeRun(tmp_path, "nano")
    program._command = [sys.executable, "-c", deaf]
    program.start()
    try:
        with pytest.raises(SourceError, match=r"edge-run does not end within 0\.2 s of SIGTERM"):
            program.end(signal.SIGTERM)
    finally:
        program.kill()
    assert programs[0].poll() == -signal.SIGKILL
