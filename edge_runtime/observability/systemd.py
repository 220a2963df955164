"""Notify a service manager (systemd, ``Type=notify``) that watching has begun and goes on; elsewhere do
nothing.

The watchdog is notified from the loop that decides on frames, so it fires when that loop hangs, in a library
of the model or in a driver. A camera that is away does not make it fire: a restart would not bring it back.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress


class ServiceManager:
    """``ready`` once, ``alive`` as often as one likes, ``stopping`` at the end. Never raises."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._clock = clock
        self._every_s = _watchdog_s(environment) / 3
        self._next = 0.0

    def ready(self) -> None:
        self._send("READY=1\nSTATUS=watching")

    def alive(self) -> None:
        """Notify the watchdog three times within its timeout; without a watchdog, never."""
        if self._every_s and self._clock() >= self._next:
            self._next = self._clock() + self._every_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """The watchdog's timeout; 0 without a watchdog, or with one for another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() else 0.0
