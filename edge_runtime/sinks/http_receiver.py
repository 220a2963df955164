"""What sinks that post to an HTTP server have in common: the address, TLS, and the meaning of answers.

A 2xx response acknowledges; informational responses (1xx) before it are skipped. 408, 425, 429 and everything
that is not 4xx is retried, not before Retry-After; another 4xx rejects the event itself, which is dropped.
"""

from __future__ import annotations

import http.client
import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

from edge_runtime.config.certificates import tls_context
from edge_runtime.errors import ConfigError, Finding
from edge_runtime.sinks.remote import PermanentError, RetryableError
from edge_runtime.video.network_url import AmbiguousUrlError, UnreadableUrlError, host_and_port, read_url

_RETRYABLE = (408, 425, 429)
_LONGEST_RETRY_AFTER_S = 3600.0
_MOST_INFORMATIONAL = 16


class _FinalResponse(http.client.HTTPResponse):
    """Skips informational responses (102, 103 ...): the real one follows. http.client knows 100 alone."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many informational answers")


class HttpReceiver:
    """The server at ``url`` (https, or http within a network you trust). TLS certificates are verified.

    ``url`` may hold a token: only its host appears in messages. Raises ConfigError for another address and
    for a ``ca_file`` that is no certificate.
    """

    def __init__(
        self, label: str, url: str, *, ca_file: Path | None, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        if problem := check_url(url):
            raise ConfigError(f"{label}: {problem}")
        parts = read_url(url)
        self.name = f"{label} ({parts.host})"
        self._host, self._port = parts.host, parts.port
        target = parts.tail.partition("#")[0]
        self._target = target if target.startswith("/") else f"/{target}"
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        try:
            self._tls = tls_context(ca_file) if parts.scheme == "https" else None
        except ConfigError as err:
            raise ConfigError(f"{label}: ca_file {err}") from err

    def connect(self) -> None:
        """Resolve the name, connect and verify the certificate, but post nothing. Raises RetryableError."""
        with self._connected():
            pass

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        """A connection; whatever goes wrong with it is a RetryableError."""
        connection = self._connection()
        connection.response_class = _FinalResponse
        try:
            connection.connect()
            if connection.sock is not None:
                connection.sock.settimeout(self._read_timeout_s)
            yield connection
        except ssl.SSLCertVerificationError as err:
            raise RetryableError(f"its certificate is not accepted: {err.verify_message}") from None
        except socket.gaierror:
            raise RetryableError("its name cannot be resolved") from None
        except TimeoutError:
            raise RetryableError("it did not answer in time") from None
        except OSError as err:
            raise RetryableError(err.strerror or type(err).__name__) from None
        except http.client.HTTPException as err:
            raise RetryableError(f"it does not speak HTTP ({type(err).__name__})") from None
        finally:
            connection.close()

    def close(self) -> None:
        """Nothing is held between events."""

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect_timeout_s)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._connect_timeout_s, context=self._tls
        )


def judge(answer: http.client.HTTPResponse, now: float) -> None:
    """Return if the event was taken. Raises RetryableError and PermanentError."""
    status = answer.status
    if 200 <= status < 300:
        return
    problem = f"{status} {http.client.responses.get(status, '')}".strip()
    if 400 <= status < 500 and status not in _RETRYABLE:
        raise PermanentError(problem)
    if 300 <= status < 400:
        problem += ": redirects are not followed, configure the new address"
    raise RetryableError(problem, retry_after_s(answer.getheader("Retry-After"), now))


def retry_after_s(value: str | None, now: float) -> float:
    """Seconds that a Retry-After header asks for, at most an hour; 0 when it cannot be read."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else 0.0


def check_url(url: str) -> str | None:
    """What is wrong with the address, without repeating it (it may hold a token); None if nothing."""
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "the address holds a space or a character that must be percent-encoded"
    try:
        parts = read_url(url)
    except AmbiguousUrlError:
        return "the address may hold a user and password; write @ in its path or query as %40"
    except UnreadableUrlError:
        return "the address cannot be read; expected https://host/path"
    if parts.scheme not in ("http", "https"):
        return "expected an address such as https://host/path"
    if parts.user is not None:
        return "the address holds a user or password; give the receiver a secret to check signatures instead"
    return None


def contact(label: str, url: str) -> Finding:
    """Host and port of ``url`` for the list of ``edge-run doctor``."""
    try:
        parts = read_url(url)
    except UnreadableUrlError:
        return Finding(label, "warn", "its address cannot be read")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return Finding(label, "ok", f"{host_and_port(parts.host, port)} ({parts.scheme})")
