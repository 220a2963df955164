"""Find out which login a camera asks for, on another connection: rtspsrc does not report it."""

from __future__ import annotations

import re
import socket
import ssl

from pipelines.sources.network import challenges, tls
from pipelines.sources.network.source import NetworkSource

_MOST = 64 << 10


def login_asked_for(source: NetworkSource, trust: tls.Trust, timeout_s: float) -> str:
    """Name the authentication that GStreamer cannot give, e.g. ``SHA-256 digest``; empty: it could."""
    try:
        answer = _describe(source, trust, timeout_s)
    except (OSError, ValueError):
        return ""
    wanted = re.findall(r"^WWW-Authenticate:[ \t]*(.+?)\s*$", answer, re.IGNORECASE | re.MULTILINE)
    return challenges.unsupported(wanted)


def _describe(source: NetworkSource, trust: tls.Trust, timeout_s: float) -> str:
    """The header of the answer to a DESCRIBE without credentials."""
    connected: socket.socket = socket.create_connection((source.host, source.port), timeout=timeout_s)
    with connected:
        if source.location.startswith("rtsps:"):
            connected = tls.client_context(trust).wrap_socket(connected, server_hostname=source.host)
            assert isinstance(connected, ssl.SSLSocket)
            tls.require_fingerprint(connected, trust)
        with connected:
            request = f"DESCRIBE {source.location} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
            connected.sendall(request.encode())
            data = b""
            while b"\r\n\r\n" not in data and len(data) < _MOST:
                if not (more := connected.recv(4096)):
                    break
                data += more
    return data.decode("utf-8", "replace")
