"""``[[webhook]]``: one HTTP POST per event with the event's JSON as its body, signed as Standard Webhooks.

    webhook-id         the event's id; the same id again is the same event again
    webhook-timestamp  seconds since 1970 at which it was sent; the receiver rejects old ones
    webhook-signature  v1,<base64>: HMAC-SHA256 of "<id>.<timestamp>.<body>" with the shared key

The key is written ``whsec_<base64>``. See https://www.standardwebhooks.com, which has libraries that verify.

A 2xx response acknowledges; informational responses (1xx) before it are skipped. 408, 425, 429 and everything
that is not 4xx is retried, not before Retry-After; another 4xx rejects the event itself, which is dropped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import math
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from edge_runtime import redaction
from edge_runtime.config.certificates import check_certificates, tls_context
from edge_runtime.config.secret import Secret, forbid_secret, read_secret
from edge_runtime.config.table import Table
from edge_runtime.errors import ConfigError, Finding
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import PermanentError, RetryableError
from edge_runtime.sinks.remote_config import RemoteConfig, read_common
from edge_runtime.video.network_url import AmbiguousUrlError, UnreadableUrlError, host_and_port, read_url

_RETRYABLE = (408, 425, 429)
_LONGEST_RETRY_AFTER_S = 3600.0
_MOST_INFORMATIONAL = 16


@dataclass(frozen=True)
class WebhookConfig(RemoteConfig):
    """One ``[[webhook]]``; the address is ``url`` or, when it holds a token, read from ``url_from``."""

    kind = "webhook"

    url: str = field(default="", repr=False)
    url_from: Secret = field(default_factory=Secret)
    secret: Secret = field(default_factory=Secret)
    """Events are signed with it."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0

    @classmethod
    def read(cls, table: Table, name: str) -> WebhookConfig:
        url, url_from = table.text("url", ""), read_secret(table, "url")
        if sum((bool(url), url_from.env is not None, url_from.file is not None)) != 1:
            table.wrong("url", "expected exactly one of url, url_env and url_file")
        elif url and (problem := check_url(url)):
            table.wrong("url", problem)
        forbid_secret(table, "secret")
        return cls(
            **read_common(table, name),
            url=url,
            url_from=url_from,
            secret=read_secret(table, "secret"),
            connect_timeout_s=table.positive("connect_timeout", 5.0),
            read_timeout_s=table.positive("read_timeout", 10.0),
        )

    def transport(self, *, announce: bool = True) -> Webhook:
        url = self.url_from.read(self.label) or self.url
        redaction.register(url)
        return Webhook(self, url, secret=self.secret.read(self.label))

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        yield from self._check_value("url", self.url_from, environment, check_url)
        yield from self._check_value("secret", self.secret, environment, check_secret)
        if not self.secret:
            text = "events are not signed, so the receiver cannot tell who sent them; give it secret_file"
            yield Finding("", "warn", text)
        yield from check_certificates("ca_file", self.ca_file)

    def contacts(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        try:
            url = read_url(self.url_from.read(self.label, environment) or self.url)
        except ConfigError as err:
            yield Finding(self.label, "warn", str(err).partition(": ")[2])
        except UnreadableUrlError:
            yield Finding(self.label, "warn", "its address cannot be read")
        else:
            port = url.port or {"http": 80, "https": 443}.get(url.scheme)
            yield Finding(self.label, "ok", f"{host_and_port(url.host, port)} ({url.scheme})")

    def _check_value(
        self, key: str, secret: Secret, environment: Mapping[str, str], check: Callable[[str], str | None]
    ) -> Iterator[Finding]:
        """That the secret can be read, and what ``check`` has to say against its value."""
        yield from secret.check(key, environment)
        with suppress(ConfigError):  # that it cannot be read is among the findings already
            value = secret.read(key, environment)
            if value is not None and (problem := check(value)):
                yield Finding(secret.key(key), "fail", f"its value cannot be used: {problem}")


class _FinalResponse(http.client.HTTPResponse):
    """Skips informational responses (102, 103 ...): the real one follows. http.client knows 100 alone."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many informational answers")


class Webhook:
    """Posts to ``url`` (https, or http within a network you trust). TLS certificates are verified.

    ``url`` may hold a token: only its host appears in messages. Raises ConfigError for another address,
    for a ``secret`` that is no signing key and for a ``ca_file`` that is no certificate.
    """

    def __init__(
        self,
        config: WebhookConfig,
        url: str,
        *,
        secret: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        problem = check_url(url) or (check_secret(secret) if secret else None)
        if problem:
            raise ConfigError(f"{config.label}: {problem}")
        parts = read_url(url)
        self.name = f"{config.label} ({parts.host})"
        self._host, self._port = parts.host, parts.port
        target = parts.tail.partition("#")[0]
        self._target = target if target.startswith("/") else f"/{target}"
        self._key = signing_key(secret) if secret else None
        self._config = config
        try:
            self._tls = tls_context(config.ca_file) if parts.scheme == "https" else None
        except ConfigError as err:
            raise ConfigError(f"{config.label}: ca_file {err}") from err
        self._now = now

    def send(self, record: OutboxRecord) -> None:
        """POST one event. Raises RetryableError and PermanentError."""
        with self._connected() as connection:
            if connection.sock is not None:
                connection.sock.settimeout(self._config.read_timeout_s)
            connection.request("POST", self._target, record.body, self._headers(record))
            answer = connection.getresponse()
            self._judge(answer.status, answer.reason, answer.getheader("Retry-After"))

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
            return http.client.HTTPConnection(self._host, self._port, timeout=self._config.connect_timeout_s)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._config.connect_timeout_s, context=self._tls
        )

    def _headers(self, record: OutboxRecord) -> dict[str, str]:
        timestamp = str(int(self._now()))
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "edge-run",
            "Connection": "close",
            "webhook-id": record.id,
            "webhook-timestamp": timestamp,
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, record.id, timestamp, record.body)
        return headers

    def _judge(self, status: int, reason: str, retry_after: str | None) -> None:
        if 200 <= status < 300:
            return
        problem = f"{status} {http.client.responses.get(status, '')}".strip()
        if 400 <= status < 500 and status not in _RETRYABLE:
            raise PermanentError(problem)
        if 300 <= status < 400:
            problem += ": redirects are not followed, configure the new address"
        raise RetryableError(problem, retry_after_s(retry_after, self._now()))


def sign(key: bytes, id: str, timestamp: str, body: bytes) -> str:
    """The value of webhook-signature."""
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def signing_key(secret: str) -> bytes:
    """The bytes of ``whsec_<base64>``. Raises ValueError."""
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def check_secret(secret: str) -> str | None:
    """What is wrong with the signing key, without repeating it; None if nothing."""
    try:
        size = len(signing_key(secret)) if secret.startswith("whsec_") else 0
    except (binascii.Error, ValueError):
        size = 0
    if 24 <= size <= 64:
        return None
    return (
        "expected whsec_ and the base64 of 24 to 64 bytes; "
        "make one with: echo whsec_$(openssl rand -base64 32)"
    )


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
