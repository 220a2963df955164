"""A sink for tests: what was written lies in a list."""

from __future__ import annotations

import json

from edge_runtime.events.records import Event, encode
from edge_runtime.sinks import Sink


class ListSink(Sink):
    """Keeps events as whoever reads them gets them: encoded, and decoded again."""

    name = "list"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> bool:
        self.events.append(json.loads(encode(event)))
        return True
