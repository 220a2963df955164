"""Files of certificates that a configuration names."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import ConfigError, Finding


def tls_context(file: Path | None) -> ssl.SSLContext:
    """Trust the certificates in ``file``, or the system's when it is None. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as err:
        reason = err.strerror if isinstance(err, FileNotFoundError) else "it holds no certificate"
        raise ConfigError(f"{file} cannot be used: {reason}") from err


def check_certificates(key: str, file: Path | None) -> Iterator[Finding]:
    """A finding about ``key`` when its file cannot be used."""
    try:
        if file is not None:
            tls_context(file)
    except ConfigError as err:
        yield Finding(key, "fail", str(err))
