"""The certificate of the server: refuse to start with one that no client would take."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge_runtime.errors import ConfigError

_EXPIRED, _NOT_YET = 10, 9
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_CERT_NOT_YET_VALID."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS with these files. Raises ConfigError when they cannot be used, do not belong together, or the
    certificate has expired.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as err:
        reason = getattr(err, "reason", None) or getattr(err, "strerror", None) or str(err)
        raise ConfigError(f"web: certificate {certificate} with key {key} cannot be used: {reason}") from err
    code = _verification(context)
    if code in (_EXPIRED, _NOT_YET):
        when = "has expired" if code == _EXPIRED else "is not valid yet"
        raise ConfigError(f"web: the certificate {certificate} {when}; renew it, or set the clock")
    return context


def _no_password() -> str:
    raise ValueError("the key has a password; store it without one, readable by edge-run alone")


def _verification(server: ssl.SSLContext) -> int:
    """OpenSSL's code about the certificate, 0 for none, from a handshake in memory that trusts it."""
    der = _handshake(_client(None), server)
    if der is None:
        return 0
    try:
        _handshake(_client(ssl.DER_cert_to_PEM_cert(der)), server)
    except ssl.SSLCertVerificationError as err:
        return err.verify_code
    except ssl.SSLError:
        pass
    return 0


def _client(trusted: str | None) -> ssl.SSLContext:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    if trusted is None:
        client.verify_mode = ssl.CERT_NONE
    else:
        client.verify_flags |= ssl.VerifyFlags(0x80000)  # X509_V_FLAG_PARTIAL_CHAIN: itself is enough
        client.load_verify_locations(cadata=trusted)
    return client


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> bytes | None:
    """The server's certificate in DER."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(10):
        waiting = False
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting = True
        if not waiting:
            break
    return ends[0].getpeercert(True)
