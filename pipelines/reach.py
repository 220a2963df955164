"""Can a network camera be reached? GStreamer reports a wrong name and a closed port alike; this does not."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable

from .problems import Problem


def check_reachable(host: str, port: int, timeout_s: float, cancelled: Callable[[], bool]) -> Problem | None:
    """Resolve ``host``, open and close one TCP connection. None when it works or was cancelled.

    Runs on a helper thread, because resolving a name cannot be interrupted; if cancelled, that thread
    ends by its own timeout.
    """
    outcome: list[Problem | None] = []
    done = threading.Event()

    def attempt() -> None:
        outcome.append(_attempt(host, port, timeout_s))
        done.set()

    threading.Thread(target=attempt, name="camera-reach", daemon=True).start()
    waited = 0.0
    while not done.wait(0.05):
        waited += 0.05
        if cancelled():
            return None
        if waited > timeout_s + 1:
            return _timed_out(host, port, timeout_s)
    return outcome[0]


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
