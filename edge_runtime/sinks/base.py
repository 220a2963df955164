"""A sink, the configuration that opens it, and several sinks as one. A new sink subclasses both classes here.

Problems while the run goes on are logged, never raised: a sink must not end a run.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edge_runtime.config.key_lines import KeyPath
from edge_runtime.config.table import Table
from edge_runtime.errors import Finding
from edge_runtime.events.records import Event


class Sink(ABC):
    """Takes events, from one thread at a time."""

    name: str

    @abstractmethod
    def write(self, event: Event) -> bool:
        """Return whether the event is out; if not, it may still go out later."""

    def counts(self) -> dict[str, int]:
        """Events of this run: ``delivered``, ``waiting`` and ``lost``; empty where they are not counted."""
        return {}

    def close(self) -> int:
        """Flush, let go of the output, and return how many events were lost."""
        return 0


@dataclass(frozen=True)
class SinkContext:
    """What a run offers the sinks that it opens."""

    outbox: Path
    """The folder in which events wait for other machines."""
    evidence: Path | None = None
    """The folder of snapshots and clips; None when none are kept."""


@dataclass(frozen=True)
class SinkConfig(ABC):
    """One ``[[kind]]`` table of edge-run.toml. Register the class in :mod:`edge_runtime.sinks.registry`, or
    as an entry point of the group ``streampro_edge.sinks``.
    """

    kind: ClassVar[str]
    """The name of its table, which it is registered by."""
    uses_outbox: ClassVar[bool] = False

    name: str
    at: KeyPath = field(default=(), compare=False, repr=False, kw_only=True)
    """Its table's place in the file."""

    @classmethod
    def read(cls, table: Table, name: str) -> SinkConfig:
        """Read the keys of one table but ``name``, which has been read; ``table.wrong`` notes mistakes."""
        return cls(name, at=table.at)

    @property
    def label(self) -> str:
        """Its kind and name, for messages: ``webhook alerts``."""
        return f"{self.kind} {self.name}"

    @abstractmethod
    def open(self, context: SinkContext) -> Sink:
        """Open the sink. Raises ConfigError for a missing secret, SinkError for what cannot be opened."""

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        """Findings of ``edge-run check``. The subject is a key of its table, or empty for the whole table."""
        yield from ()

    def connect(self) -> bool:
        """Connect, send nothing, and return True; False when there is no other end.

        Raises RetryableError when it cannot be reached, ConfigError and SinkError as :meth:`open` does.
        """
        return False

    def contacts(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        """Hosts that ``edge-run doctor`` lists: a subject and ``host:port (protocol)``, never a secret."""
        yield from ()


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
            return {sink.name: counts for sink in self._sinks if (counts := sink.counts())}

    def close(self) -> dict[str, int]:
        """Close all; the names of those that lost events, with how many."""
        lost = {sink.name: sink.close() for sink in self._sinks}
        self._sinks = []
        return {name: count for name, count in lost.items() if count}
