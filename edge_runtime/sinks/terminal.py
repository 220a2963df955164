"""Responses as lines for people, on a stdout that is a terminal, in place of JSON."""

from __future__ import annotations

import sys

from edge_runtime.events.records import Event
from edge_runtime.observability.console import Console, printable
from edge_runtime.sinks.base import Sink


class TerminalSink(Sink):
    """Takes the place of stdout's JSON lines on a terminal.

    ``spoken``: print each response. Left out where the live lines show them on the same terminal.
    """

    name = "terminal"

    def __init__(self, *, spoken: bool, several: bool = False) -> None:
        """``several``: name the camera in each line."""
        self._console = Console(sys.stdout)
        self._spoken = spoken
        self._several = several

    def write(self, event: Event) -> bool:
        """Return True: a response is shown here or among the live lines, so it counts as sent."""
        if self._spoken and event["type"] == "response":
            stream = f"{event['stream']}  " if self._several else ""
            self._console.line(printable(f"{stream}{event['time']:g}s  {event['text']}"))
        return True


def stdout_is_terminal() -> bool:
    return Console(sys.__stdout__).on_terminal
