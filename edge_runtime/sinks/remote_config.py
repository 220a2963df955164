"""The keys that sinks on other machines have in common, and how such a sink is opened with its outbox."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.config.table import Table
from edge_runtime.sinks.base import SinkConfig, SinkContext
from edge_runtime.sinks.outbox import DEFAULT_MAX_AGE_S, DEFAULT_MAX_BYTES, Outbox
from edge_runtime.sinks.remote import RemoteSink, Transport

EVENT_TYPES = ("response", "stream", "query", "model", "stats")
DEFAULT_TYPES = ("response", "stream")


@dataclass(frozen=True)
class RemoteConfig(SinkConfig):
    """A sink that delivers by way of an outbox; a subclass adds its keys and the transport."""

    uses_outbox = True

    types: tuple[str, ...] = DEFAULT_TYPES
    """Types of events that are sent."""
    outbox_bytes: int = DEFAULT_MAX_BYTES
    outbox_age_s: float = DEFAULT_MAX_AGE_S
    ca_file: Path | None = None
    """Certificates to trust in place of the system's."""

    @abstractmethod
    def transport(self, *, announce: bool = True) -> Transport:
        """Connect events to the other end. Without ``announce`` nothing is published there.

        Raises ConfigError and SinkError as :meth:`open` does.
        """

    def outbox(self, context: SinkContext) -> Outbox:
        """Its outbox in the folder of the run. Raises SinkError."""
        return Outbox(
            context.outbox / f"{self.kind}-{self.name}.sqlite",
            max_bytes=self.outbox_bytes,
            max_age_s=self.outbox_age_s,
        )

    def open(self, context: SinkContext) -> RemoteSink:
        transport = self.transport()
        return RemoteSink(self.outbox(context), transport, self.types)

    def connect(self) -> bool:
        transport = self.transport(announce=False)
        try:
            transport.connect()
        finally:
            transport.close()
        return True


def read_outbox(table: Table, name: str, types: tuple[str, ...] = DEFAULT_TYPES) -> dict[str, Any]:
    """The fields of RemoteConfig but ``ca_file``; ``types``: what is sent when the table does not say."""
    named = table.items("events") if "events" in table else list(types)
    if not named or not all(kind in EVENT_TYPES for kind in named):
        table.wrong("events", f"expected some of {', '.join(EVENT_TYPES)}, got {named!r}")
    return {
        "name": name,
        "at": table.at,
        "types": tuple(named),
        "outbox_bytes": int(table.positive("outbox_megabytes", 64.0) * (1 << 20)),
        "outbox_age_s": table.positive("outbox_days", 7.0) * 86400,
    }


def read_common(table: Table, name: str, types: tuple[str, ...] = DEFAULT_TYPES) -> dict[str, Any]:
    """The fields of RemoteConfig."""
    return {**read_outbox(table, name, types), "ca_file": table.path("ca_file")}
