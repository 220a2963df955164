"""``[web]`` of edge-run.toml: where the page and the calls are served, and to whom."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.app.runtime_config import parse_address
from edge_runtime.config.secret import Secret, read_secret
from edge_runtime.config.table import Table

LEAST_PREVIEW, MOST_PREVIEW = 64, 1920


@dataclass(frozen=True)
class WebConfig:
    """``[web]``. Nothing is served while ``address`` is None."""

    address: tuple[str, int] | None = None
    """Host and port."""
    token: Secret = field(default_factory=Secret)
    """Where the token is read from that clients must give; needed anywhere but on loopback."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """Files in PEM; without them connections are not encrypted."""
    hosts: tuple[str, ...] = ()
    """Further names under which browsers reach the server."""
    allow_add_cameras: bool = False
    """Cameras may be added and removed over HTTP: a way into the network of this machine."""
    preview_size: int = 640
    """Pixels of the longer side of a preview, at most; the video's own size where that is smaller."""

    @property
    def on_loopback(self) -> bool:
        return self.address is not None and is_loopback(self.address[0])


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_web(table: Table) -> WebConfig:
    certificate, key = table.path("tls_certificate"), table.path("tls_key")
    if (certificate is None) != (key is None):
        table.wrong("tls_certificate" if certificate is None else "tls_key", "expected beside the other one")
    hosts = table.items("hosts")
    if not all(isinstance(host, str) and host.strip() for host in hosts):
        table.wrong("hosts", f"expected a list of names in quotes, got {hosts!r}")
        hosts = []
    table.forbid("token", "secrets do not belong in this file; use token_env or token_file")
    return WebConfig(
        table.parsed("address", parse_address, None),
        read_secret(table, "token"),
        certificate,
        key,
        tuple(hosts),
        table.flag("allow_add_cameras", False),
        table.whole(
            "preview_size",
            WebConfig.preview_size,
            lambda size: LEAST_PREVIEW <= size <= MOST_PREVIEW,
            f"pixels from {LEAST_PREVIEW} to {MOST_PREVIEW}",
        ),
    )
