"""``[[webhook]]``: one HTTP POST per event with the event's JSON as its body, signed as Standard Webhooks.

    webhook-id         the event's id; the same id again is the same event again
    webhook-timestamp  seconds since 1970 at which it was sent; the receiver rejects old ones
    webhook-signature  v1,<base64>: HMAC-SHA256 of "<id>.<timestamp>.<body>" with the shared key

With ``attach_snapshot`` the body of a response that has a snapshot is multipart/form-data: the part ``event``
with the JSON and the part ``snapshot`` with the JPEG. The signature is that of the body that is sent.

The key is written ``whsec_<base64>``. See https://www.standardwebhooks.com, which has libraries that verify.

What answers mean: :mod:`edge_runtime.sinks.http_receiver`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime import redaction
from edge_runtime.config.certificates import check_certificates
from edge_runtime.config.secret import Secret, forbid_secret, read_secret
from edge_runtime.config.table import Table
from edge_runtime.errors import ConfigError, Finding
from edge_runtime.sinks.base import SinkContext
from edge_runtime.sinks.http_receiver import HttpReceiver, check_url, contact, judge
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import RemoteSink
from edge_runtime.sinks.remote_config import RemoteConfig, read_common
from edge_runtime.sinks.snapshots import Snapshots

_JSON = "application/json; charset=utf-8"
_NO_PICTURES = (413, 415)
"""Answers to a picture that is too large or not wanted."""

_log = logging.getLogger(__name__)


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
    attach_snapshot: bool = False
    """Responses bring their snapshot along."""

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
            attach_snapshot=table.flag("attach_snapshot", False),
        )

    def open(self, context: SinkContext) -> RemoteSink:
        if self.attach_snapshot and context.evidence is None:
            _log.warning(
                "%s: attach_snapshot has no effect, as no evidence is kept; give --evidence a folder",
                self.label,
            )
        transport = self.transport(evidence=context.evidence)
        return RemoteSink(self.outbox(context), transport, self.types)

    def transport(self, *, announce: bool = True, evidence: Path | None = None) -> Webhook:
        url = self.url_from.read(self.label) or self.url
        redaction.register(url)
        return Webhook(self, url, secret=self.secret.read(self.label), evidence=evidence)

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        yield from self._check_value("url", self.url_from, environment, check_url)
        yield from self._check_value("secret", self.secret, environment, check_secret)
        if not self.secret:
            text = "events are not signed, so the receiver cannot tell who sent them; give it secret_file"
            yield Finding("", "warn", text)
        yield from check_certificates("ca_file", self.ca_file)

    def contacts(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        try:
            url = self.url_from.read(self.label, environment) or self.url
        except ConfigError as err:
            yield Finding(self.label, "warn", str(err).partition(": ")[2])
        else:
            yield contact(self.label, url)

    def _check_value(
        self, key: str, secret: Secret, environment: Mapping[str, str], check: Callable[[str], str | None]
    ) -> Iterator[Finding]:
        """That the secret can be read, and what ``check`` has to say against its value."""
        yield from secret.check(key, environment)
        with suppress(ConfigError):  # that it cannot be read is among the findings already
            value = secret.read(key, environment)
            if value is not None and (problem := check(value)):
                yield Finding(secret.key(key), "fail", f"its value cannot be used: {problem}")


class Webhook(HttpReceiver):
    """Posts to ``url`` (https, or http within a network you trust). TLS certificates are verified.

    ``url`` may hold a token: only its host appears in messages. Raises ConfigError for another address,
    for a ``secret`` that is no signing key and for a ``ca_file`` that is no certificate. Snapshots are looked
    for in the folder ``evidence``.
    """

    def __init__(
        self,
        config: WebhookConfig,
        url: str,
        *,
        secret: str | None = None,
        evidence: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            config.label,
            url,
            ca_file=config.ca_file,
            connect_timeout_s=config.connect_timeout_s,
            read_timeout_s=config.read_timeout_s,
        )
        if secret and (problem := check_secret(secret)):
            raise ConfigError(f"{config.label}: {problem}")
        self._key = signing_key(secret) if secret else None
        self._snapshots = Snapshots(evidence if config.attach_snapshot else None, now)
        self._alone = ""
        """The id of an event that is sent without its snapshot."""
        self._now = now

    def send(self, record: OutboxRecord) -> None:
        """POST one event. Raises RetryableError and PermanentError."""
        picture = self._snapshots.wait(record) if record.id != self._alone else None
        if picture is None or not self._sent_with(picture, record):
            with self._connected() as connection:
                judge(self._post(connection, record.id, record.body, _JSON), self._now())

    def _sent_with(self, picture: bytes, record: OutboxRecord) -> bool:
        """Send the event and its snapshot; False when the receiver takes no such body."""
        body, content_type = multipart(record.body, picture)
        with self._connected() as connection:
            try:
                answer = self._post(connection, record.id, body, content_type)
            except (OSError, http.client.HTTPException):
                self._alone = record.id  # some servers hang up on a large body; the event still has to go
                raise
            if answer.status in _NO_PICTURES:
                return False
            judge(answer, self._now())
            return True

    def _post(
        self, connection: http.client.HTTPConnection, id: str, body: bytes, content_type: str
    ) -> http.client.HTTPResponse:
        connection.request("POST", self._target, body, self._headers(id, body, content_type))
        return connection.getresponse()

    def _headers(self, id: str, body: bytes, content_type: str) -> dict[str, str]:
        timestamp = str(int(self._now()))
        headers = {
            "Content-Type": content_type,
            "User-Agent": "edge-run",
            "Connection": "close",
            "webhook-id": id,
            "webhook-timestamp": timestamp,
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, id, timestamp, body)
        return headers


def multipart(event: bytes, picture: bytes) -> tuple[bytes, str]:
    """A body of multipart/form-data with the parts ``event`` and ``snapshot``, and its content type."""
    boundary = secrets.token_hex(16).encode()
    parts = (
        (b'name="event"', _JSON.encode(), event),
        (b'name="snapshot"; filename="snapshot.jpg"', b"image/jpeg", picture),
    )
    body = b"".join(
        b"--%s\r\nContent-Disposition: form-data; %s\r\nContent-Type: %s\r\n\r\n%s\r\n"
        % (boundary, disposition, kind, content)
        for disposition, kind, content in parts
    )
    return body + b"--%s--\r\n" % boundary, f"multipart/form-data; boundary={boundary.decode()}"


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
