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

    threading.Thread(target=run, name="camera-probe", daemon=True).start()
    while not cancelled():
        if wait([outcome], timeout=0.05).done:
            return outcome.result()
    return None


def _attempt(host: str, port: int, timeout_s: float) -> Problem | None:
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return None
    except socket.gaierror:
        cause = f"the name {host} cannot be resolved"
        hint = "check the spelling and this machine's network"
    except TimeoutError:
        cause = f"{host}:{port} did not answer within {timeout_s:g} s"
        hint = "check the address, firewall and camera"
    except OSError as error:
        cause, hint = f"cannot connect to {host}:{port} ({error.strerror or error})", "check the network"
        if error.errno == errno.ECONNREFUSED:
            cause = f"{host} refuses connections on port {port}"
            hint = "check the port and that the camera is serving"
        elif error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            cause = f"{host} cannot be reached from here"
            hint = "check the address and this machine's network"
    return Problem(cause, hint, unreachable=True)
