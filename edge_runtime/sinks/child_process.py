"""Run a program with an input and with bounds: time, output, and what it may leave behind.

The program gets a session of its own: Ctrl-C at a terminal does not reach it, and everything that it starts
can be ended with it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

KEPT_BYTES = 2000
"""The end of the output that is kept."""
MOST_OUTPUT_BYTES = 1 << 20
"""A program that writes more is ended."""
GRACE_S = 0.5
"""From SIGTERM to SIGKILL."""

_LOOK_EVERY_S = 0.05
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    output: str
    """The end of stdout and stderr, mixed as they came, in one line."""
    ended_by_us: str = ""
    """Why the program was ended, in words; empty when it ended by itself."""


def run_program(
    argv: Sequence[str],
    stdin: bytes,
    *,
    timeout_s: float,
    environment: Mapping[str, str],
    stop: threading.Event,
) -> Outcome:
    """Start ``argv`` without a shell, write ``stdin`` to it, and wait until it ends.

    It is ended after ``timeout_s``, when it writes too much, and when ``stop`` is set. What is left of its
    process group when it has ended is killed. Raises OSError when it cannot be started.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        pipes = _Pipes(process, stdin)
        try:
            reason = _attend(process, pipes, time.monotonic() + timeout_s, timeout_s, stop)
        finally:
            pipes.close()
    finally:
        _signal_group(process, signal.SIGKILL)  # before it is reaped: its id cannot belong to another yet
        process.wait()
    return Outcome(process.returncode, pipes.text(), reason)


def _attend(
    process: subprocess.Popen[bytes], pipes: _Pipes, until: float, timeout_s: float, stop: threading.Event
) -> str:
    """Move input and output until the program has ended; why it had to be ended, or nothing."""
    reason = ""
    while not _has_ended(process):
        pipes.move(_LOOK_EVERY_S)
        now = time.monotonic()
        if reason:
            if now >= until:
                _signal_group(process, signal.SIGKILL)
            continue
        if stop.is_set():
            reason = "the run ended"
        elif now >= until:
            reason = f"it ran for more than {timeout_s:g} s"
        elif pipes.read_bytes > MOST_OUTPUT_BYTES:
            reason = f"it wrote more than {MOST_OUTPUT_BYTES >> 20} MiB of output"
        if reason:
            until = now + GRACE_S
            _signal_group(process, signal.SIGTERM)
    pipes.move(0.0)
    return reason


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class _Pipes:
    """Feeds the program's stdin and reads its output, neither of which may block."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.read_bytes = 0
        self._in, self._out = process.stdin, process.stdout
        self._left = memoryview(stdin)
        self._end = b""
        self._selector = selectors.DefaultSelector()
        for pipe, events in ((self._in, selectors.EVENT_WRITE), (self._out, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, events)

    def move(self, timeout_s: float) -> None:
        """Move what can be moved, once; wait for it at most ``timeout_s``."""
        if not self._selector.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._in:
                self._write()
            else:
                self._read()

    def text(self) -> str:
        """The end of the output in one line."""
        return " ".join(self._end[-KEPT_BYTES:].decode("utf-8", "replace").split())

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._in, self._out):
            with suppress(OSError):  # input that the program has not read is dropped
                pipe.close()

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._in.fileno(), self._left) :]
        except BlockingIOError:
            return
        except OSError:  # it does not read its input
            self._left = self._left[:0]
        if not self._left:
            self._selector.unregister(self._in)
            self._in.close()

    def _read(self) -> None:
        try:
            data = os.read(self._out.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return
        self.read_bytes += len(data)
        self._end = (self._end + data)[-2 * KEPT_BYTES :]
        if not data:
            self._selector.unregister(self._out)
