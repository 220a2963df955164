"""Can a network camera be reached? GStreamer reports a wrong name and a closed port alike; this does not."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from pipelines.sources.errors import Problem

_T = TypeVar("_T")


def check_reachable(host: str, port: int, timeout_s: float, cancelled: Callable[[], bool]) -> Problem | None:
    """Resolve ``host``, open and close one TCP connection. None when it works or was cancelled."""
    return in_background(lambda: _attempt(host, port, timeout_s), cancelled)


def in_background(attempt: Callable[[], _T], cancelled: Callable[[], bool]) -> _T | None:
    """The result of ``attempt``, or what it raises; None when it was cancelled.

    It runs on a helper thread, because resolving a name cannot be interrupted; its own timeouts end it.
    """
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(attempt())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="camera-reach", daemon=True).start()
    while not cancelled():
        if wait([outcome], timeout=0.05).done:
            return outcome.result()
    return None


def _attempt(host: str, port: int, timeout_s: float) -> Problem | None:
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return None
    except socket.gaierror:
        return _unreachable(
            f"the name {host} cannot be resolved", "check the spelling and this machine's network"
        )
    except TimeoutError:
        return _timed_out(host, port, timeout_s)
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            return _unreachable(
                f"{host} refuses connections on port {port}", "check the port and that the camera is serving"
            )
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return _unreachable(
                f"{host} cannot be reached from here", "check the address and this machine's network"
            )
        cause = f"cannot connect to {host}:{port} ({error.strerror or error})"
        return _unreachable(cause, "check the network")


def _timed_out(host: str, port: int, timeout_s: float) -> Problem:
    return _unreachable(
        f"{host}:{port} did not answer within {timeout_s:g} s", "check the address, firewall and camera"
    )


def _unreachable(cause: str, hint: str) -> Problem:
    return Problem(cause, hint, unreachable=True)
