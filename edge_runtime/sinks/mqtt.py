"""``[[mqtt]]``: each event to ``<topic>/<stream>/<type>`` with QoS 1, and a retained availability.

``<topic>/availability`` is ``online`` while this process is connected, and ``offline`` after it has
disconnected or, as the last will, after it was lost. The broker's PUBACK is the acknowledgement. With
``snapshot`` the JPEG of a response follows it at ``<topic>/<stream>/response/snapshot``, not retained. Needs
paho-mqtt, the extra ``mqtt``.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.config.certificates import check_certificates
from edge_runtime.config.secret import Secret, forbid_secret, read_secret
from edge_runtime.config.table import Table
from edge_runtime.errors import ConfigError, Finding, SinkError
from edge_runtime.sinks.base import SinkContext
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import RemoteSink, RetryableError
from edge_runtime.sinks.remote_config import RemoteConfig, read_common
from edge_runtime.sinks.snapshots import Snapshots
from edge_runtime.video.network_url import host_and_port

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

ONLINE, OFFLINE = "online", "offline"
_FORBIDDEN = re.compile(r"[+#/\s\x00-\x1f\x7f]+")
_KEEP_ALIVE_S = 30
_OFFLINE_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MqttConfig(RemoteConfig):
    """One ``[[mqtt]]``."""

    kind = "mqtt"

    host: str = ""
    port: int | None = None
    topic: str = "edge-run"
    tls: bool = False
    user: str | None = None
    password: Secret = field(default_factory=Secret)
    home_assistant: bool = False
    """Cameras and queries are devices of Home Assistant, which can change the queries."""
    discovery_prefix: str = "homeassistant"
    snapshot: bool = False
    """The snapshot of a response is published after it."""

    @classmethod
    def read(cls, table: Table, name: str) -> MqttConfig:
        host = table.required_text("host")
        if host is not None and not re.fullmatch(r"[\w.:-]+", host):
            table.wrong("host", "expected a host's name or address alone")
        common = read_common(table, name)
        home_assistant = table.flag("home_assistant", False)
        if home_assistant and "response" not in common["types"]:
            table.wrong("home_assistant", "its event entity needs responses; add response to events")
        snapshot = table.flag("snapshot", False)
        if snapshot and "response" not in common["types"]:
            table.wrong("snapshot", "snapshots follow responses; add response to events")
        forbid_secret(table, "password")
        return cls(
            **common,
            host=host or "",
            port=table.whole("port", None, lambda port: 0 < port < 65536, "a port from 1 to 65535"),
            topic=_read_topic(table, "topic", "edge-run"),
            tls=table.flag("tls", False),
            user=table.text("user", None),
            password=read_secret(table, "password"),
            home_assistant=home_assistant,
            discovery_prefix=_read_topic(table, "discovery_prefix", "homeassistant"),
            snapshot=snapshot,
        )

    @property
    def label(self) -> str:
        return f"MQTT {self.name}"

    @property
    def any_port(self) -> int:
        """The port, or the protocol's default."""
        return self.port or (8883 if self.tls else 1883)

    def open(self, context: SinkContext) -> RemoteSink:
        if self.snapshot and context.evidence is None:
            _log.warning(
                "%s: snapshot has no effect, as no evidence is kept; give --evidence a folder", self.label
            )
        transport = self.transport(evidence=context.evidence)
        return RemoteSink(self.outbox(context), transport, self.types)

    def transport(self, *, announce: bool = True, evidence: Path | None = None) -> Mqtt:
        return Mqtt(self, self.password.read(self.label), announce=announce, evidence=evidence)

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        yield from self.password.check("password", environment)
        if self.password and self.user is None:
            yield Finding("", "fail", "there is a password but no user; add user")
        if importlib.util.find_spec("paho") is None:
            text = "paho-mqtt is not installed; pip install 'streampro-edge[mqtt]'"
            yield Finding("", "fail", text, exit_code=SinkError.exit_code)
        yield from check_certificates("ca_file", self.ca_file)

    def contacts(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        yield Finding(self.label, "ok", f"{host_and_port(self.host, self.any_port)} (mqtt)")


class Mqtt:
    """One connection to a broker, kept and restored by paho's own thread.

    Without ``announce`` the availability is not published. ``evidence``: the folder that has the snapshots.

    Raises SinkError without paho-mqtt and ConfigError when ``ca_file`` is no certificate. With ``tls`` the
    broker's certificate is verified.
    """

    def __init__(
        self,
        config: MqttConfig,
        password: str | None = None,
        *,
        timeout_s: float = 10.0,
        longest_pause_s: float = 60.0,
        announce: bool = True,
        evidence: Path | None = None,
    ) -> None:
        self.name = f"{config.label} ({config.host})"
        self._topic = config.topic
        self._announce = announce
        self._timeout_s = timeout_s
        self._connected = threading.Event()
        self._problem = "it cannot be reached"
        self._snapshots = Snapshots(evidence if config.snapshot else None)
        self._under_way: tuple[str, MQTTMessageInfo] | None = None
        self._client = make_client(config, password)
        if announce:
            self._client.will_set(self._availability, OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.reconnect_delay_set(1, max(1, int(longest_pause_s)))
        # Not connect(): whether the broker is there at the start must not decide about the run.
        self._client.connect_async(config.host, config.any_port, keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()

    def send(self, record: OutboxRecord) -> None:
        """Publish one event, wait for its PUBACK, and publish its snapshot. Raises RetryableError."""
        self.connect()
        topic = f"{self._topic}/{topic_level(record.stream)}/{record.type}"
        # paho sends an unacknowledged message again when the connection is back: publish only what is new.
        if self._under_way is None or self._under_way[0] != record.id:
            self._under_way = (record.id, self._client.publish(topic, record.body, qos=1))
        message = self._under_way[1]
        until = time.monotonic() + self._timeout_s
        while not message.is_published():
            if not self._connected.is_set() or time.monotonic() > until:
                raise RetryableError("it did not acknowledge in time")
            with suppress(RuntimeError, ValueError):  # not connected just now, or paho's queue is full
                message.wait_for_publish(0.2)
        self._under_way = None
        if (picture := self._snapshots.wait(record)) is not None:
            # QoS 0: on a message that is too large some brokers disconnect, and paho would repeat it forever.
            with suppress(ValueError):
                self._client.publish(f"{topic}/snapshot", picture, qos=0)

    def connect(self) -> None:
        """Wait for the connection. Raises RetryableError."""
        if not self._connected.wait(self._timeout_s):
            raise RetryableError(self._problem)

    def close(self) -> None:
        """Publish that this process is offline, and disconnect."""
        if self._announce and self._connected.is_set():
            with suppress(RuntimeError, ValueError):
                self._client.publish(self._availability, OFFLINE, qos=1, retain=True).wait_for_publish(
                    _OFFLINE_S
                )
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def _availability(self) -> str:
        return availability_topic(self._topic)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._problem = f"it refuses the connection: {reason}"
            return
        if self._announce:
            client.publish(self._availability, ONLINE, qos=1, retain=True)
        self._connected.set()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._connected.is_set():
            self._problem = f"the connection was lost: {reason}"
        self._connected.clear()

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._problem = "it cannot be reached"


def make_client(config: MqttConfig, password: str | None) -> Client:
    """A client that can log in, not connected. Raises SinkError and ConfigError as :class:`Mqtt` does."""
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise SinkError(
            f"{config.label}: paho-mqtt 2 is not installed; pip install 'streampro-edge[mqtt]'"
        ) from None
    client = Client(CallbackAPIVersion.VERSION2)
    if config.user is not None:
        client.username_pw_set(config.user, password)
    if config.tls:
        try:
            client.tls_set(ca_certs=str(config.ca_file) if config.ca_file else None)
        except (OSError, ValueError) as err:
            raise ConfigError(f"{config.label}: ca_file {config.ca_file} cannot be used: {err}") from err
    return client


def availability_topic(topic: str) -> str:
    return f"{topic}/availability"


def topic_level(stream: str) -> str:
    """A stream's name as one level of a topic: without separators, wildcards and white space."""
    return _FORBIDDEN.sub("_", stream).lstrip("$") or "_"


def _read_topic(table: Table, key: str, default: str) -> str:
    topic = table.text(key, default)
    if not topic.strip("/") or re.search(r"[+#\x00]", topic):
        table.wrong(key, f"expected a topic without wildcards, got {topic!r}")
    return topic.strip("/")
