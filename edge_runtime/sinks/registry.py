"""Who events are sent to (``[[webhook]]``, ``[[mqtt]]``), where its secrets come from, and the sinks.

A secret stands in an environment variable or in a file of its own (systemd credentials, container secrets),
never in edge-run.toml. Whatever was read is handed to ``hide``, which takes it out of what is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from edge_runtime.sinks.remote import RemoteSink, Transport

EVENT_TYPES = ("response", "stream", "query", "stats")
DEFAULT_TYPES = ("response", "stream")


@dataclass(frozen=True)
class Secret:
    """Where a secret is read from; nowhere when both are None."""

    env: str | None = None
    file: Path | None = None

    def read(self, owner: str, environment: Mapping[str, str] = os.environ) -> str | None:
        """Its value. Raises ConfigError, which names ``owner``, when the variable or file is not there."""
        if self.file is not None:
            try:
                value = self.file.read_text(encoding="utf-8-sig").strip()
            except (OSError, UnicodeDecodeError) as err:
                reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8 text"
                raise ConfigError(f"{owner}: the file {self.file} cannot be read: {reason}") from None
            if not value:
                raise ConfigError(f"{owner}: the file {self.file} is empty")
            return value
        if self.env is None:
            return None
        if not environment.get(self.env):
            raise ConfigError(
                f"{owner}: the environment variable {self.env} is not set; export it before edge-run"
            )
        return environment[self.env]


@dataclass(frozen=True)
class ReceiverConfig:
    """What webhooks and MQTT brokers have in common."""

    name: str
    types: tuple[str, ...] = DEFAULT_TYPES
    """Types of events that are sent."""
    outbox_bytes: int = 64 << 20
    outbox_age_s: float = 7 * 86400.0


@dataclass(frozen=True)
class WebhookConfig(ReceiverConfig):
    """One ``[[webhook]]``; the address is ``url`` or, when it holds a token, read from ``url_from``."""

    url: str = field(default="", repr=False)
    url_from: Secret = field(default_factory=Secret)
    secret: Secret = field(default_factory=Secret)
    """Events are signed with it."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    ca_file: Path | None = None


@dataclass(frozen=True)
class MqttConfig(ReceiverConfig):
    """One ``[[mqtt]]``."""

    host: str = ""
    port: int | None = None
    topic: str = "edge-run"
    tls: bool = False
    ca_file: Path | None = None
    user: str | None = None
    password: Secret = field(default_factory=Secret)


def default_outbox() -> Path:
    """The folder of outboxes when the configuration names none."""
    # Without any home, as in some containers, a folder called ~; only who has receivers gets it made.
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "edge-run" / "outbox"


def open_receivers(
    receivers: Iterable[ReceiverConfig],
    folder: Path,
    say: Callable[[str], None],
    hide: Callable[[str], None],
    *,
    needed: bool = True,
) -> list[RemoteSink]:
    """A sink with its outbox and its thread for each receiver.

    Raises ConfigError for a secret that is missing and SinkError for an outbox that cannot be made or an
    optional package that is not installed; then those already opened are closed again. Unless they are
    ``needed``: then one that cannot be used is left out, and ``say`` tells so.
    """
    from edge_runtime.sinks.outbox import Outbox
    from edge_runtime.sinks.remote import RemoteSink

    sinks: list[RemoteSink] = []
    try:
        for receiver in receivers:
            kind = "webhook" if isinstance(receiver, WebhookConfig) else "mqtt"
            try:
                transport = open_transport(receiver, hide)
                outbox = Outbox(
                    folder / f"{kind}-{receiver.name}.sqlite",
                    max_bytes=receiver.outbox_bytes,
                    max_age_s=receiver.outbox_age_s,
                    say=say,
                )
            except EdgeError as err:
                if needed:
                    raise
                say(f"{err}. The run goes on without it: it watches no camera of edge-run.toml")
                continue
            sinks.append(RemoteSink(outbox, transport, receiver.types, say))
    except EdgeError:
        for sink in sinks:
            sink.close()
        raise
    return sinks


def open_transport(
    receiver: ReceiverConfig, hide: Callable[[str], None], *, announce: bool = True
) -> Transport:
    """What brings events to this receiver. Without ``announce`` a broker is not told who is there.

    Raises ConfigError and SinkError as :func:`open_receivers` does.
    """
    if isinstance(receiver, WebhookConfig):
        from edge_runtime.sinks.webhook import Webhook

        owner = f"webhook {receiver.name}"
        url = receiver.url_from.read(owner) or receiver.url
        secret = receiver.secret.read(owner)
        for value in (url, secret):
            if value:
                hide(value)
        return Webhook(
            receiver.name,
            url,
            secret=secret,
            connect_timeout_s=receiver.connect_timeout_s,
            read_timeout_s=receiver.read_timeout_s,
            ca_file=receiver.ca_file,
        )
    assert isinstance(receiver, MqttConfig)
    from edge_runtime.sinks.mqtt import Mqtt

    password = receiver.password.read(f"MQTT {receiver.name}")
    if password:
        hide(password)
    return Mqtt(
        receiver.name,
        receiver.host,
        receiver.port,
        topic=receiver.topic,
        tls=receiver.tls,
        ca_file=receiver.ca_file,
        user=receiver.user,
        password=password,
        announce=announce,
    )
