"""A webhook: one HTTP POST an event, signed, with the event's JSON as its body.

    X-Edge-Run-Id         the event's id: the same one again is the same event again
    X-Edge-Run-Timestamp  seconds since 1970 at which it was sent; refuse what is too old
    X-Edge-Run-Signature  v1=<hex>, HMAC-SHA256 with the shared secret over "<timestamp>.<body>"

A 2xx answer acknowledges; informational ones (1xx) before it are read over. 408, 425, 429 and everything that
is not 4xx is tried again (Retry-After is obeyed); another 4xx says that the event itself is not wanted, and
drops it.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.outbox import Parcel
from edge_runtime.sinks.remote import Refused, Unavailable
from edge_runtime.video.network_url import AmbiguousUrlError, UnreadableUrlError, read_url

_TRY_AGAIN = (408, 425, 429)
_LONGEST_RETRY_AFTER_S = 3600.0
_MOST_INFORMATIONAL = 16


class _FinalResponse(http.client.HTTPResponse):
    """Reads over informational answers (102, 103 ...): the real one follows. http.client knows 100 alone."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many informational answers")


class Webhook:
    """Posts to ``url`` (https, or http within a network you trust). TLS certificates are verified.

    ``url`` may hold a token: only its host appears in messages. Raises ConfigError when it is no such address
    or ``ca_file`` is no certificate.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        secret: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        ca_file: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        problem = check_url(url)
        if problem:
            raise ConfigError(f"webhook {name}: {problem}")
        parts = read_url(url)
        self.name = f"webhook {name} ({parts.host})"
        self._host, self._port = parts.host, parts.port
        target = parts.tail.partition("#")[0]
        self._target = target if target.startswith("/") else f"/{target}"
        self._secret = secret.encode() if secret else None
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._tls = _tls_context(name, ca_file) if parts.scheme == "https" else None
        self._now = now

    def send(self, parcel: Parcel) -> None:
        """POST one event. Raises Unavailable and Refused."""
        with self._connected() as connection:
            if connection.sock is not None:
                connection.sock.settimeout(self._read_timeout_s)
            connection.request("POST", self._target, parcel.body, self._headers(parcel))
            answer = connection.getresponse()
            self._judge(answer.status, answer.reason, answer.getheader("Retry-After"))

    def reach(self) -> None:
        """Resolve the name, connect and verify the certificate, but post nothing. Raises Unavailable."""
        with self._connected():
            pass

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        """A connection; what goes wrong with it is Unavailable."""
        connection = self._connection()
        connection.response_class = _FinalResponse
        try:
            connection.connect()
            yield connection
        except ssl.SSLCertVerificationError as err:
            raise Unavailable(f"its certificate is not accepted: {err.verify_message}") from None
        except socket.gaierror:
            raise Unavailable("its name cannot be resolved") from None
        except TimeoutError:
            raise Unavailable("it did not answer in time") from None
        except OSError as err:
            raise Unavailable(err.strerror or type(err).__name__) from None
        except http.client.HTTPException as err:
            raise Unavailable(f"it does not speak HTTP ({type(err).__name__})") from None
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

    def _headers(self, parcel: Parcel) -> dict[str, str]:
        timestamp = str(int(self._now()))
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "edge-run",
            "Connection": "close",
            "X-Edge-Run-Id": parcel.id,
            "X-Edge-Run-Timestamp": timestamp,
        }
        if self._secret is not None:
            headers["X-Edge-Run-Signature"] = sign(self._secret, timestamp, parcel.body)
        return headers

    def _judge(self, status: int, reason: str, retry_after: str | None) -> None:
        if 200 <= status < 300:
            return
        told = f"{status} {http.client.responses.get(status, '')}".strip()
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            raise Refused(told)
        if 300 <= status < 400:
            told += ": redirects are not followed, configure the new address"
        raise Unavailable(told, retry_after_s(retry_after, self._now()))


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of X-Edge-Run-Signature."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


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


def _tls_context(name: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as err:
        reason = err.strerror if isinstance(err, FileNotFoundError) else "it holds no certificate"
        raise ConfigError(f"webhook {name}: ca_file {ca_file} cannot be used: {reason}") from err
