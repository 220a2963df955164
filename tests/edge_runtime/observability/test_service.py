"""What systemd is told, read from a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.observability.systemd import ServiceManager

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def test_the_watchdog_is_fed_three_times_within_its_patience(manager, tmp_path):
    now = [100.0]
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    service = ServiceManager(environment, clock=lambda: now[0])
    service.ready()
    for _ in range(31):
        service.alive()
        now[0] += 1
    service.stopping()
    manager.setblocking(False)
    told = []
    while True:
        try:
            told.append(manager.recv(1000).decode())
        except BlockingIOError:
            break
    assert told == ["READY=1\nSTATUS=watching", *["WATCHDOG=1"] * 4, "STOPPING=1"]


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_and_without_a_listener_nothing_happens(tmp_path, more):
    for address in ("", "@no one", str(tmp_path / "none")):
        service = ServiceManager({"NOTIFY_SOCKET": address, **more})
        service.ready()
        service.alive()
        service.stopping()


@pytest.mark.slow
@pytest.mark.gst
def test_a_run_says_that_it_watches_and_goes_on(tiny_bundle, manager, tmp_path):
    pytest.importorskip("gi")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge_runtime.app.cli", "test:", "--ask", "What?", "--quiet"),
            *("--bundle", str(tiny_bundle), "--threads", "1"),
        ],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "1500000",
        },
    )
    try:
        assert manager.recv(1000).startswith(b"READY=1")
        began = time.monotonic()
        assert [manager.recv(1000) for _ in range(4)] == [b"WATCHDOG=1"] * 4
        assert time.monotonic() - began < 15
        process.send_signal(signal.SIGTERM)
        while (told := manager.recv(1000)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
