"""TLS of cameras: what is trusted, how GStreamer and Python are given it, and why a certificate is refused.

Three ways to trust: the system's authorities (default), a file of certificates, or the SHA-256 fingerprint of
one certificate. With a fingerprint nothing else is checked: neither host name nor dates nor issuer, as few
cameras have a certificate for which these could be right. GStreamer checks every connection that it makes;
:func:`check` connects once before that, because GStreamer does not say why it refuses.
"""

from __future__ import annotations

import functools
import hashlib
import ssl
from dataclasses import dataclass
from socket import create_connection
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import load
from pipelines.sources.errors import Problem

_REASONS = {
    9: "is not valid yet (or this machine's clock is wrong)",
    10: "has expired (or this machine's clock is wrong)",
    18: "is self-signed",
    19: "was issued by an authority that this machine does not know",
    20: "was issued by an authority that this machine does not know",
    21: "was issued by an authority that this machine does not know",
    62: "is for another host than {host}",
    64: "is for another address than {host}",
}
"""By OpenSSL's numbers (X509_V_ERR_...)."""


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


def client_context(trust: Trust) -> ssl.SSLContext:
    """Make the context of a Python client. Call :func:`require_fingerprint` once it is connected.

    Raises SourceError for a file that holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=trust.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(trust, error) from None
    # Python 3.13 refuses certificates without identifiers of keys, as cameras make them; GStreamer does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not trust.verify or trust.fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def require_fingerprint(connected: ssl.SSLSocket, trust: Trust) -> None:
    """Raise ssl.SSLCertVerificationError unless the peer's certificate is the one that is trusted."""
    if trust.fingerprint and _fingerprint(connected.getpeercert(True)) != trust.fingerprint:
        raise ssl.SSLCertVerificationError("another fingerprint")


def database(trust: Trust) -> Any | None:
    """Make GStreamer's view of the same: a GTlsDatabase for ``tls-database``; None for the default.

    Raises SourceError for a file that holds no certificates.
    """
    if trust.fingerprint:
        return _pinned_database()(trust.fingerprint)
    if not trust.verify or trust.ca_file is None:
        return None
    client_context(trust)  # refuses files in words of ours
    from gi.repository import Gio

    return Gio.TlsFileDatabase.new(trust.ca_file)


@functools.cache
def _pinned_database() -> Any:
    load()
    from gi.repository import Gio

    class PinnedDatabase(Gio.TlsDatabase):  # type: ignore[misc]
        """Accepts one certificate, whoever issued it."""

        def __init__(self, fingerprint: str) -> None:
            super().__init__()
            self._fingerprint = fingerprint

        def do_verify_chain(self, chain: Any, *_: Any) -> Any:
            """Called on GStreamer's threads for each connection."""
            same = _fingerprint(bytes(chain.props.certificate)) == self._fingerprint
            return Gio.TlsCertificateFlags(0) if same else Gio.TlsCertificateFlags.UNKNOWN_CA

    return PinnedDatabase


def check(host: str, port: int, trust: Trust, timeout_s: float) -> Problem | None:
    """Connect once. Returns why the certificate is refused, None when it is accepted or that is unknown."""
    try:
        context = client_context(trust)
    except SourceError as error:
        return Problem(str(error), "", "permanent")
    if not trust.verify:
        return None
    try:
        with _connect(host, port, context, timeout_s) as connected:
            require_fingerprint(connected, trust)
    except ssl.SSLCertVerificationError as error:
        return refused(host, port, trust, getattr(error, "verify_code", 0), timeout_s)
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return Problem(f"{host} does not speak TLS on port {port}", "use the scheme without the s")
    except OSError:
        pass
    return None  # GStreamer's own attempt decides


def refused(host: str, port: int, trust: Trust, verify_code: int, timeout_s: float) -> Problem:
    """Explain a certificate that was refused, and how this one could be allowed."""
    found = _presented(host, port, timeout_s)
    if trust.fingerprint:
        return Problem(
            f"the server's TLS certificate is not that of tls_fingerprint but {found or 'another'}",
            "if the camera got a new certificate, set tls_fingerprint to it; else somebody is in between",
        )
    reason = _REASONS.get(verify_code, "is not accepted").format(host=host)
    allow = f"--tls-fingerprint {found}" if found else "--tls-ca-file"
    return Problem(
        f"the server's TLS certificate {reason}; if it is your camera's, allow it with {allow}",
        "tls_fingerprint and tls_ca_file of edge-run.toml do the same",
    )


def _presented(host: str, port: int, timeout_s: float) -> str:
    """The fingerprint of what the server shows; empty when it does not answer again."""
    context = client_context(Trust(verify=False))
    try:
        with _connect(host, port, context, timeout_s) as connected:
            return _fingerprint(connected.getpeercert(True))
    except OSError:
        return ""


def _connect(host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> ssl.SSLSocket:
    plain = create_connection((host, port), timeout=timeout_s)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _fingerprint(certificate: bytes | None) -> str:
    return hashlib.sha256(certificate or b"").hexdigest()


def _unusable(trust: Trust, error: Exception) -> SourceError:
    reason = error.strerror if isinstance(error, FileNotFoundError) else "it holds no certificate"
    return SourceError(f"tls_ca_file {trust.ca_file} cannot be used: {reason}", permanent=True)
