"""MQTT against a real Mosquitto broker on loopback that is stopped, killed and started again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.sinks.mqtt import Mqtt, MqttConfig, topic_level
from edge_runtime.sinks.outbox import Outbox, OutboxRecord
from edge_runtime.sinks.remote import Backoff, RemoteSink, RetryableError
from tests.edge_runtime.mosquitto import MOSQUITTO, Broker, wait_for


def test_without_paho_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(SinkError, match=r"MQTT home: .*pip install 'streampro-edge\[mqtt\]'"):
        Mqtt(MqttConfig("home", host="127.0.0.1"))


@pytest.mark.parametrize(
    ("stream", "level"),
    [("door", "door"), ("rtsp://h/a b", "rtsp:_h_a_b"), ("a+b#c", "a_b_c"), ("$SYS", "SYS"), ("$", "_")],
)
def test_a_stream_is_one_level_of_a_topic(stream, level):
    assert topic_level(stream) == level


class Listener:
    """A subscriber to everything: what came, in order, and the last availability."""

    def __init__(self, port: int, user: str | None = None, password: str | None = None) -> None:
        client = pytest.importorskip("paho.mqtt.client")
        self.events: list[tuple[str, dict]] = []
        self.availability: list[tuple[str, bool]] = []
        self.ready = False
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(user, password)
        self._client.on_connect = lambda c, *_: c.subscribe("edge-run/#", qos=1)
        self._client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self._client.on_message = self._message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(lambda: self.ready)

    def _message(self, _client, _data, message) -> None:
        if message.topic.endswith("/availability"):
            self.availability.append((message.payload.decode(), message.retain))
        else:
            self.events.append((message.topic, json.loads(message.payload)))

    @property
    def ids(self) -> list[str]:
        return [event["id"] for _, event in self.events]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def config(port: int, user: str | None = None) -> MqttConfig:
    return MqttConfig("home", host="127.0.0.1", port=port, user=user)


def record(number: int) -> OutboxRecord:
    return OutboxRecord(number, f"id{number}", "door", "response", json.dumps({"id": f"id{number}"}).encode())


def test_events_and_availability(broker):
    listener = Listener(broker.port)
    sink = Mqtt(config(broker.port))
    sink.send(record(1))
    wait_for(lambda: listener.events and listener.availability)
    assert listener.events == [("edge-run/door/response", {"id": "id1"})]
    assert listener.availability == [("online", False)]
    late = Listener(broker.port)
    wait_for(lambda: late.availability == [("online", True)])  # retained
    sink.close()
    wait_for(lambda: listener.availability[-1][0] == "offline")
    listener.close()
    late.close()


LOST = """
import sys, time
from edge_runtime.sinks.mqtt import Mqtt, MqttConfig
from edge_runtime.sinks.outbox import OutboxRecord
record = OutboxRecord(1, "id1", "door", "response", b'{"id": "id1"}')
Mqtt(MqttConfig("home", host="127.0.0.1", port=int(sys.argv[1]))).send(record)
print("sent", flush=True)
time.sleep(60)
"""


def test_the_broker_says_offline_for_one_that_was_killed(broker):
    listener = Listener(broker.port)
    process = subprocess.Popen(
        [sys.executable, "-c", LOST, str(broker.port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "sent\n"
    process.kill()
    process.wait()
    wait_for(lambda: [state for state, _ in listener.availability] == ["online", "offline"])
    listener.close()


def test_a_broker_that_is_killed_and_started_again_gets_every_event_in_order(broker, tmp_path, logged):
    first = Listener(broker.port)
    mqtt = Mqtt(config(broker.port), timeout_s=1.0, longest_pause_s=1)
    sink = RemoteSink(Outbox(tmp_path / "box.sqlite"), mqtt, ["response"], backoff=Backoff(0.2, 0.5))
    for number in range(5):
        sink.write({"type": "response", "id": f"id{number}", "stream": "door"})
    wait_for(lambda: sink.depth == 0 and len(first.events) == 5)
    broker.stop()
    for number in range(5, 25):
        assert sink.write({"type": "response", "id": f"id{number}", "stream": "door"})
    wait_for(lambda: sink.sender.failing)
    first.close()
    broker.start()
    # mqtt waits a second or less before it knocks again; without a listener there by then, nothing is shown.
    second = Listener(broker.port)
    wait_for(lambda: sink.depth == 0)
    assert sink.close() == 0 and sink.sender.delivered == 25
    order = list(dict.fromkeys([*first.ids, *second.ids]))
    assert order == sorted(order, key=lambda event_id: int(event_id[2:]))
    assert sum("cannot send events to MQTT home" in line for line in logged) == 1
    second.close()


def test_a_wrong_password_is_said_without_it_and_the_right_one_works(tmp_path):
    if MOSQUITTO is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto is not installed")
    pytest.importorskip("paho.mqtt.client")
    broker = Broker(tmp_path, password="r1ght-one")
    try:
        wrong = Mqtt(config(broker.port, user="edge"), "wr0ng-one", timeout_s=2.0)
        with pytest.raises(RetryableError, match=r"refuses the connection: (Not auth|Bad user)") as caught:
            wrong.send(record(1))
        assert "wr0ng" not in str(caught.value) + wrong.name
        wrong.close()
        right = Mqtt(config(broker.port, user="edge"), "r1ght-one")
        right.send(record(1))
        right.close()
    finally:
        broker.stop()


def test_a_broker_that_is_not_there_at_the_start_is_no_error():
    pytest.importorskip("paho.mqtt.client")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = Mqtt(config(port), timeout_s=0.3)
    with pytest.raises(RetryableError, match="cannot be reached"):
        sink.send(record(1))
    sink.close()
