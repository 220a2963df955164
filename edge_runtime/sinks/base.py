"""What a sink is, and several as one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from edge_runtime.events.records import Event


class Sink(Protocol):
    """Takes events. ``write`` returns whether the event is out; it may still go out later if not."""

    name: str

    def write(self, event: Event) -> bool: ...

    def close(self) -> int:
        """Flush, let go of the output, and return how many events were lost."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A sink that tells how many events it has delivered in this run, keeps waiting and has lost."""

    name: str

    def counts(self) -> dict[str, int]: ...


class Sinks:
    """Several sinks as one, for any number of threads."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self._lock = threading.Lock()

    def write(self, event: Event) -> bool:
        """Write to each; True when at least one took it at once."""
        with self._lock:
            return any([sink.write(event) for sink in self._sinks])

    def counts(self) -> dict[str, dict[str, int]]:
        """By the name of each sink that counts."""
        with self._lock:
            return {sink.name: sink.counts() for sink in self._sinks if isinstance(sink, Counting)}

    def close(self) -> dict[str, int]:
        """Close all; the names of those that lost events, with how many."""
        lost = {sink.name: sink.close() for sink in self._sinks}
        self._sinks = []
        return {name: count for name, count in lost.items() if count}
