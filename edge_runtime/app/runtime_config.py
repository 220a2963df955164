"""``[runtime]`` of edge-run.toml: the model, how it runs, and where events and metrics go."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.backends.names import MOST_THREADS, NAMES
from edge_runtime.backends.spinning import Spinning, parse_spinning
from edge_runtime.bundle.default import DEFAULT_BUNDLE
from edge_runtime.config.table import Table
from edge_runtime.sinks.file import Rotation, read_rotation


def default_outbox() -> Path:
    """The folder of outboxes when the configuration names none."""
    # Without any home, as in some containers, a folder called ~; it is made only when a sink needs it.
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "edge-run" / "outbox"


@dataclass(frozen=True)
class RuntimeConfig:
    """``[runtime]``."""

    bundle: str = DEFAULT_BUNDLE
    """A bundle's name or folder; a relative folder is taken from the configuration file's."""
    threads: int | None = None
    backend: str = "auto"
    """What runs the model; see :data:`edge_runtime.backends.names.NAMES`."""
    spinning: Spinning = "run"
    """When ONNX Runtime's threads poll for work."""
    stats_every_s: float = 60.0
    """Seconds between the ``stats`` events of a live source."""
    events: Path | None = None
    """A file that events are appended to, beside stdout."""
    rotation: Rotation = field(default_factory=Rotation)
    """Of that file."""
    outbox: Path = field(default_factory=default_outbox)
    """The folder in which events wait for other machines."""
    metrics: tuple[str, int] | None = None
    """Host and port of the Prometheus endpoint; None for none."""


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT`` (loopback). Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535 or (":" in host and host[0] + host[-1] != "[]"):
        raise ValueError(f"expected HOST:PORT such as 127.0.0.1:9464, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def read_runtime(table: Table) -> RuntimeConfig:
    bundle = table.text("bundle", DEFAULT_BUNDLE) or DEFAULT_BUNDLE
    return RuntimeConfig(
        bundle=str(table.near(bundle)) if os.sep in bundle else bundle,
        threads=table.whole(
            "threads",
            None,
            lambda n: 1 <= n <= MOST_THREADS,
            f"a whole number of threads from 1 to {MOST_THREADS}",
        ),
        backend=_backend(table),
        spinning=table.parsed("spinning", parse_spinning, "run"),
        stats_every_s=table.seconds("stats_every", 60.0, zero=False),
        events=table.path("events"),
        rotation=read_rotation(table),
        outbox=table.path("outbox") or default_outbox(),
        metrics=table.parsed("metrics", parse_address, None),
    )


def _backend(table: Table) -> str:
    name = table.text("backend", "auto")
    if name not in NAMES:
        table.wrong("backend", f"expected one of {', '.join(NAMES)}, got {name!r}")
        return "auto"
    return name
