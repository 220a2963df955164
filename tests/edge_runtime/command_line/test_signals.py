"""SIGHUP, sent to real processes: a request from anybody, or the end of the terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import os, time
from edge_runtime.command_line.signals import reload_on_hangup
# Not print: it may be interrupted by the signal, and cannot be entered again.
with reload_on_hangup(lambda: os.write(1, b"reloaded\\n")):
    print("ready", flush=True)
    time.sleep(60)
"""
COMMAND = [sys.executable, "-c", CHILD]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def test_a_hangup_reloads_until_the_terminal_is_really_gone():
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, COMMAND, ENVIRONMENT)
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 100)
    os.kill(pid, signal.SIGHUP)
    while b"reloaded" not in said:
        said += os.read(terminal, 100)
    os.close(terminal)  # as when its window is closed
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP


def test_a_service_without_a_terminal_reloads():
    service = subprocess.Popen(
        COMMAND, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert service.stdout is not None
    with service:
        assert service.stdout.readline() == "ready\n"
        for _ in range(2):
            service.send_signal(signal.SIGHUP)
            assert service.stdout.readline() == "reloaded\n"
        service.kill()


def test_under_nohup_the_signal_stays_ignored():
    kept = subprocess.Popen(["nohup", *COMMAND], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert kept.stdout is not None
    with kept:
        assert kept.stdout.readline() == "ready\n"
        kept.send_signal(signal.SIGHUP)
        kept.send_signal(signal.SIGTERM)
        assert kept.stdout.read() == ""
    assert kept.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module", ["json", "click.core", "edge_runtime.observability.console", "numpy", "tokenizers"]
)
def test_a_signal_while_the_program_is_being_loaded_ends_it_without_a_word(module, number, tmp_path):
    """Sent when ``module`` has been imported; after ``tokenizers`` comes the engine."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "edge_runtime", "sample"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert process.stderr is not None
    with process:
        imported = (line.rpartition("|")[2].strip() for line in process.stderr)
        assert "edge_runtime" in imported and module in imported  # each reads on as far as that
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM)
    # An empty line is click's: it goes behind the ^C that a terminal shows.
    assert [line for line in rest.splitlines() if line and not line.startswith("import time:")] == []
