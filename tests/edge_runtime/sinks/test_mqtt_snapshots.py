"""Snapshots of responses at a real Mosquitto broker."""

from __future__ import annotations

import threading
import time

import pytest

from edge_runtime.atomic_write import whole_file
from edge_runtime.sinks import SinkContext
from edge_runtime.sinks.mqtt import MqttConfig
from edge_runtime.sinks.snapshots import WAIT_S
from tests.edge_runtime.mosquitto import Broker, wait_for

RESPONSE, SNAPSHOT = "edge-run/door/response", "edge-run/door/response/snapshot"


class Listener:
    """What came below one topic: topic, payload and whether it was retained."""

    def __init__(self, port: int, topic: str = "edge-run/door/#") -> None:
        client = pytest.importorskip("paho.mqtt.client")
        self.seen: list[tuple[str, bytes, bool]] = []
        subscribed = threading.Event()
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda c, *_: c.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _c, _d, m: self.seen.append((m.topic, m.payload, m.retain))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(15)

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _, _ in self.seen]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def response(number: int, snapshot: str | None = None) -> dict:
    kept = {} if snapshot is None else {"evidence": {"snapshot": snapshot}}
    return {"id": f"id{number}", "type": "response", "stream": "door", **kept}


def open_sink(broker: Broker, folder, **keys):
    config = MqttConfig("home", host="127.0.0.1", port=broker.port, **keys)
    return config.open(SinkContext(folder / "box", folder))


def test_a_snapshot_follows_its_response_and_is_not_retained(broker, tmp_path):
    picture = b"\xff\xd8" + bytes(300_000)
    listener = Listener(broker.port)
    sink = open_sink(broker, tmp_path, snapshot=True)
    sink.write(response(1, "a.jpg"))
    sink.write(response(2))
    wait_for(lambda: listener.topics == [RESPONSE])  # it does not wait for its snapshot
    time.sleep(0.2)
    with whole_file(tmp_path / "a.jpg") as path:
        path.write_bytes(picture)
    wait_for(lambda: len(listener.seen) == 3)
    assert listener.topics == [RESPONSE, SNAPSHOT, RESPONSE]
    assert listener.seen[1][1:] == (picture, False)
    later = Listener(broker.port)
    assert sink.close() == 0
    assert later.seen == []
    later.close()
    listener.close()


def test_one_that_never_comes_holds_up_nothing_for_long(broker, tmp_path):
    listener = Listener(broker.port)
    sink = open_sink(broker, tmp_path, snapshot=True)
    started = time.monotonic()
    for number in range(10):
        sink.write(response(number, "none.jpg"))
    wait_for(lambda: len(listener.seen) == 10)
    assert time.monotonic() - started < 2 * WAIT_S and set(listener.topics) == {RESPONSE}
    assert sink.close() == 0
    listener.close()


def test_the_last_snapshot_of_a_run_arrives(broker, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture" * 100_000)
    listener = Listener(broker.port)
    sink = open_sink(broker, tmp_path, snapshot=True)
    sink.write(response(1, "a.jpg"))
    assert sink.close() == 0
    wait_for(lambda: listener.topics == [RESPONSE, SNAPSHOT])
    listener.close()


def test_nobody_who_did_not_ask_gets_snapshots(broker, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    listener = Listener(broker.port)
    sink = open_sink(broker, tmp_path)
    sink.write(response(1, "a.jpg"))
    sink.write(response(2, "a.jpg"))
    assert sink.close() == 0
    wait_for(lambda: len(listener.seen) >= 2)
    assert listener.topics == [RESPONSE, RESPONSE]
    listener.close()


def test_without_evidence_one_line_says_that_there_are_none(broker, tmp_path, logged):
    config = MqttConfig("home", host="127.0.0.1", port=broker.port, snapshot=True)
    config.open(SinkContext(tmp_path / "box")).close()
    assert [line for line in logged if "snapshot has no effect" in line]
