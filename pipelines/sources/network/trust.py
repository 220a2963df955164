"""Which TLS certificates of a camera are accepted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trust:
    """Which certificates are accepted."""

    verify: bool = True
    """False: any certificate is accepted."""
    ca_file: str | None = None
    """PEM certificates to trust in place of the system's."""
    fingerprint: str | None = None
    """SHA-256 of the one certificate that is accepted, 64 hexadecimal digits."""

    def __post_init__(self) -> None:
        if not self.verify and (self.ca_file or self.fingerprint):
            raise ValueError("without verification neither a CA file nor a fingerprint counts")
