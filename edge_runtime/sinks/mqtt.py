"""MQTT: each event to ``<topic>/<stream>/<type>`` with QoS 1, and whether edge-run is there, retained.

``<topic>/availability`` is ``online`` while this process is connected and ``offline`` after it has left
or been lost (the last will). The broker's PUBACK is the acknowledgement. Needs paho-mqtt, the extra ``mqtt``.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.sinks.outbox import Parcel
from edge_runtime.sinks.remote import Unavailable

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

ONLINE, OFFLINE = "online", "offline"
_FORBIDDEN = re.compile(r"[+#/\s\x00-\x1f\x7f]+")
_KEEP_ALIVE_S = 30
_LEAVE_S = 2.0


class Mqtt:
    """One connection to a broker, kept and mended by paho's own thread.

    Without ``announce`` nobody is told who is there.

    Raises SinkError without paho-mqtt and ConfigError when ``ca_file`` is no certificate. With ``tls`` the
    broker's certificate is verified.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int | None = None,
        *,
        topic: str = "edge-run",
        tls: bool = False,
        ca_file: Path | None = None,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 10.0,
        longest_pause_s: float = 60.0,
        announce: bool = True,
    ) -> None:
        self.name = f"MQTT {name} ({host})"
        self._topic = topic
        self._announce = announce
        self._timeout_s = timeout_s
        self._connected = threading.Event()
        self._problem = "it cannot be reached"
        self._under_way: tuple[str, MQTTMessageInfo] | None = None
        self._client = self._make_client(name, tls, ca_file, user, password)
        self._client.reconnect_delay_set(1, max(1, int(longest_pause_s)))
        # Not connect(): whether the broker is there at the start must not decide about the run.
        self._client.connect_async(host, port or (8883 if tls else 1883), keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()

    def send(self, parcel: Parcel) -> None:
        """Publish one event and wait for its PUBACK. Raises Unavailable."""
        self.reach()
        # paho sends an unacknowledged message again when the connection is back: publish only what is new.
        if self._under_way is None or self._under_way[0] != parcel.id:
            topic = f"{self._topic}/{topic_level(parcel.stream)}/{parcel.type}"
            self._under_way = (parcel.id, self._client.publish(topic, parcel.body, qos=1))
        message = self._under_way[1]
        until = time.monotonic() + self._timeout_s
        while not message.is_published():
            if not self._connected.is_set() or time.monotonic() > until:
                raise Unavailable("it did not acknowledge in time")
            with suppress(RuntimeError, ValueError):  # not connected just now, or paho's queue is full
                message.wait_for_publish(0.2)
        self._under_way = None

    def reach(self) -> None:
        """Wait for the connection. Raises Unavailable."""
        if not self._connected.wait(self._timeout_s):
            raise Unavailable(self._problem)

    def close(self) -> None:
        """Say that we leave, and disconnect."""
        if self._announce and self._connected.is_set():
            with suppress(RuntimeError, ValueError):
                self._client.publish(self._availability, OFFLINE, qos=1, retain=True).wait_for_publish(
                    _LEAVE_S
                )
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def _availability(self) -> str:
        return f"{self._topic}/availability"

    def _make_client(
        self, name: str, tls: bool, ca_file: Path | None, user: str | None, password: str | None
    ) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise SinkError(
                f"MQTT {name}: paho-mqtt 2 is not installed; pip install 'streampro-edge[mqtt]'"
            ) from None
        client = Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            client.username_pw_set(user, password)
        if tls:
            try:
                client.tls_set(ca_certs=str(ca_file) if ca_file else None)
            except (OSError, ValueError) as err:
                raise ConfigError(f"MQTT {name}: ca_file {ca_file} cannot be used: {err}") from err
        if self._announce:
            client.will_set(self._availability, OFFLINE, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        return client

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


def topic_level(stream: str) -> str:
    """A stream's name as one level of a topic: without separators, wildcards and white space."""
    return _FORBIDDEN.sub("_", stream).lstrip("$") or "_"
