"""Home Assistant's side of a real Mosquitto broker: devices, states, and what is set, with a real model."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

import edge_runtime
from edge_runtime.app.run import home_assistant
from edge_runtime.app.run.home_assistant import HomeAssistant, read_change
from edge_runtime.errors import ConfigError
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.sinks.mqtt import MqttConfig
from tests.edge_runtime.app.run.test_control import CARS, WHAT, Run, running
from tests.edge_runtime.mosquitto import wait_for

ROOT = Path(__file__).resolve().parents[4]
DISCOVERY = "homeassistant/device/edge-run_door/config"
NEVER = QueryConfig("What does the person do?", policy=PolicySettings(threshold=1.0))


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return edge_runtime.load(tiny_bundle, threads=1)


class Home:
    """What a subscriber to everything sees: the retained state of the broker and all that came."""

    def __init__(self, port: int) -> None:
        client = pytest.importorskip("paho.mqtt.client")
        self.state: dict[str, bytes] = {}
        self.log: list[tuple[str, bytes, bool]] = []
        self._ready = False
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda c, *_: c.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: setattr(self, "_ready", True)
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(lambda: self._ready)

    def _message(self, _client, _data, message) -> None:
        self.log.append((message.topic, message.payload, message.retain))
        if message.payload:
            self.state[message.topic] = message.payload
        else:
            self.state.pop(message.topic, None)

    def publish(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def text(self, topic: str) -> str:
        return self.state.get(topic, b"").decode()

    def wait(self, topic: str, text: str) -> None:
        wait_for(lambda: self.text(topic) == text, 15)

    def components(self) -> dict:
        return json.loads(self.state[DISCOVERY])["components"] if DISCOVERY in self.state else {}

    def count(self, topic: str) -> int:
        return sum(one == topic for one, _, _ in self.log)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def home(port: int) -> Iterator[Home]:
    home = Home(port)
    try:
        yield home
    finally:
        home.close()


@contextmanager
def bridged(run: Run, port: int, configured: tuple[str, ...] = ()) -> Iterator[HomeAssistant]:
    config = MqttConfig("home", host="127.0.0.1", port=port, home_assistant=True)
    bridge = HomeAssistant(config, run.control, configured, longest_pause_s=1)
    try:
        yield bridge
    finally:
        bridge.close()


def test_a_camera_is_a_device_with_its_states(model, broker):
    with home(broker.port) as seen, running(model, WHAT, CARS) as run, bridged(run, broker.port):
        seen.wait("edge-run/door/q2/question", CARS.text)
        run.frames(3)
        wait_for(
            lambda: "edge-run/door/snapshot" in seen.state and "edge-run/door/last_response" in seen.state
        )
        said = run.events("response")[-1]
        wait_for(lambda: json.loads(seen.text("edge-run/door/last_response"))["id"] == said["id"])
        assert json.loads(seen.text("edge-run/door/last_response"))["text"] == said["text"]
        assert seen.text("edge-run/door/q1/threshold") == "0"
        assert seen.text("edge-run/door/q1/paused") == "OFF" and seen.text("edge-run/door/watching") == "OFF"
        assert set(seen.components()) >= {"watching", "q1_threshold", "q2_paused"}
        wait_for(lambda: pixel(seen.state["edge-run/door/snapshot"]) == pytest.approx(37 * 2, abs=3))
        with home(broker.port) as later:  # all of it is retained
            wait_for(lambda: later.state.keys() >= seen.state.keys())
            assert all(retained for _, _, retained in later.log)


def pixel(jpeg: bytes) -> int:
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG" and image.size == (64, 64)
    return image.getpixel((30, 30))[0]


def test_what_is_set_is_in_force_at_the_next_timestep(model, broker):
    with home(broker.port) as seen, running(model, WHAT, NEVER) as run, bridged(run, broker.port):
        seen.wait("edge-run/door/q2/threshold", "1")
        run.frames(2)
        seen.publish("edge-run/door/q1/paused/set", "ON")
        seen.publish("edge-run/door/q2/threshold/set", "0.0")
        seen.wait("edge-run/door/q1/paused", "ON")
        seen.wait("edge-run/door/q2/threshold", "0")
        run.frames(2)
        assert run.said("q1") == [1, 2] and run.said("q2")[0] == 3
        seen.publish("edge-run/door/q1/question/set", CARS.text)
        seen.publish("edge-run/door/q1/paused/set", "OFF")
        seen.wait("edge-run/door/q1/question", CARS.text)
        seen.wait("edge-run/door/q1/paused", "OFF")
        run.frames(1)
        assert run.events("response")[-2]["question"] == CARS.text


def test_what_cannot_be_set_changes_nothing_and_is_shown_as_it_is(model, broker, logged):
    with home(broker.port) as seen, running(model, NEVER) as run, bridged(run, broker.port):
        seen.wait("edge-run/door/q1/threshold", "1")
        before = run.control.queries("door")
        shown = seen.count("edge-run/door/q1/threshold")
        for topic, payload in (
            ("door/q1/threshold", "nan"),
            ("door/q1/threshold", "1.5"),
            ("door/q1/paused", "MAYBE"),
            ("door/q1/question", "  "),
            ("door/q9/threshold", "0.5"),
            ("yard/q1/threshold", "0.5"),
            ("door/q1/question", b"\xff\x00"),
            ("door/q1/question", "a\0b"),
            ("door/q1/question", "x" * 5000),
        ):
            seen.publish(f"edge-run/{topic}/set", payload)
            time.sleep(0.1)
        wait_for(lambda: sum("/set" in line for line in logged) == 9)
        wait_for(lambda: seen.count("edge-run/door/q1/threshold") > shown)  # Home Assistant showed another
        assert run.control.queries("door") == before
    with home(broker.port) as seen:
        seen.publish("edge-run/door/q1/threshold/set", "0.1", retain=True)
    with running(model, NEVER) as run, bridged(run, broker.port), home(broker.port) as seen:
        wait_for(lambda: any("is retained and was ignored" in line for line in logged))
        seen.wait("edge-run/door/q1/threshold", "1")
        assert run.control.queries("door")[0].threshold == 1.0


def test_a_thousand_changes_in_a_row(model, broker):
    with home(broker.port) as seen, running(model, WHAT) as run, bridged(run, broker.port) as bridge:
        seen.wait("edge-run/door/q1/threshold", "0")
        for number in range(1000):
            seen._client.publish("edge-run/door/q1/threshold/set", f"{number / 1000}", qos=1)
            if number % 100 == 0:
                run.frames(1)
        seen.wait("edge-run/door/q1/threshold", "0.999")
        run.frames(1)
        assert run.control.queries("door")[0].threshold == 0.999 and not bridge._changes


def test_a_query_that_goes_is_removed(model, broker):
    with home(broker.port) as seen, running(model, WHAT, CARS) as run, bridged(run, broker.port):
        seen.wait("edge-run/door/q2/paused", "OFF")
        run.frames(1)
        run.control.withdraw("door", "q2")
        wait_for(lambda: not any("q2" in topic for topic in seen.state))
        wait_for(lambda: "q2_paused" not in seen.components())
        said = [json.loads(payload)["components"] for topic, payload, _ in seen.log if topic == DISCOVERY]
        # Home Assistant removes a component when it is published with its platform alone.
        assert {"platform": "switch"} in [parts.get("q2_paused") for parts in said]
        added = run.control.ask("door", CARS)
        run.frames(1)
        seen.wait(f"edge-run/door/{added.id}/question", CARS.text)


def test_what_an_earlier_run_left_is_removed(model, broker):
    with running(model, WHAT, CARS) as run, bridged(run, broker.port), home(broker.port) as seen:
        seen.wait("edge-run/door/q2/paused", "OFF")
        left = dict(seen.state)
    with home(broker.port) as seen:
        yard = left[DISCOVERY].replace(b"door", b"yard")
        attic = left[DISCOVERY].replace(b"door", b"attic")
        foreign = left[DISCOVERY].replace(b"StreamPro Edge", b"other")
        seen.publish(DISCOVERY.replace("door", "yard"), yard, retain=True)
        seen.publish(DISCOVERY.replace("door", "attic"), attic, retain=True)
        seen.publish(DISCOVERY.replace("door", "other"), foreign, retain=True)
        seen.publish("edge-run/yard/q1/paused", "OFF", retain=True)
        with running(model, WHAT) as run, bridged(run, broker.port, configured=("door", "attic")):
            wait_for(lambda: DISCOVERY.replace("door", "yard") not in seen.state)
            wait_for(lambda: "q2_paused" not in seen.components() and "q1_paused" in seen.components())
            wait_for(lambda: not any("q2" in topic for topic in seen.state))
            wait_for(lambda: "edge-run/yard/q1/paused" not in seen.state)
            assert DISCOVERY.replace("door", "attic") in seen.state  # configured, but not watched now
            assert DISCOVERY.replace("door", "other") in seen.state


def test_a_camera_that_goes_is_removed(model, broker, monkeypatch):
    monkeypatch.setattr(home_assistant, "LOOK_EVERY_S", 0.1)
    with home(broker.port) as seen, running(model, WHAT) as run, bridged(run, broker.port, ("door",)):
        seen.wait("edge-run/door/q1/paused", "OFF")
        run.control.watch([])
        wait_for(lambda: not any(topic.startswith(("homeassistant/", "edge-run/")) for topic in seen.state))


def test_everything_is_published_again_when_home_assistant_starts(model, broker):
    with home(broker.port) as seen, running(model, WHAT) as run, bridged(run, broker.port):
        seen.wait("edge-run/door/q1/paused", "OFF")
        before = seen.count(DISCOVERY), seen.count("edge-run/door/watching")
        seen.publish("homeassistant/status", "offline")
        seen.publish("homeassistant/status", "online")
        wait_for(lambda: (seen.count(DISCOVERY), seen.count("edge-run/door/watching")) > before)
        assert seen.count(DISCOVERY) == before[0] + 1


def test_a_broker_that_is_killed_and_started_again_has_everything_again(model, broker):
    with running(model, WHAT) as run, bridged(run, broker.port):
        with home(broker.port) as seen:
            seen.wait("edge-run/door/q1/paused", "OFF")
            run.frames(1)
            wait_for(lambda: "edge-run/door/snapshot" in seen.state)
            had = set(seen.state)
        broker.stop()  # it keeps nothing on disk
        run.control.change("door", "q1", read_change("threshold", "0.25"))
        broker.start()
        with home(broker.port) as seen:
            wait_for(lambda: had <= set(seen.state))
            seen.wait("edge-run/door/q1/threshold", "0.25")
            seen.publish("edge-run/door/q1/threshold/set", "0.5")
            seen.wait("edge-run/door/q1/threshold", "0.5")


CONFIG = """\
[[camera]]
name = "door"
source = "test:"
[[camera.ask]]
text = "Tell me everything that happens."

[[mqtt]]
name = "home"
host = "127.0.0.1"
port = {}
home_assistant = true
"""


@pytest.mark.slow
@pytest.mark.gst
def test_edge_run_is_steered_by_home_assistant(broker, tmp_path):
    pytest.importorskip("gi")
    (tmp_path / "edge-run.toml").write_text(CONFIG.format(broker.port))
    with home(broker.port) as seen:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime", "door", "--config", "edge-run.toml", "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: seen.text("edge-run/door/watching") == "ON", 60)
            assert seen.text("edge-run/availability") == "online" and "q1_threshold" in seen.components()
            seen.publish("edge-run/door/q1/question/set", "Tell me when it is green.")
            seen.publish("edge-run/door/q1/paused/set", "ON")
            seen.wait("edge-run/door/q1/question", "Tell me when it is green.")
            seen.wait("edge-run/door/q1/paused", "ON")
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        events = [json.loads(line) for line in out.splitlines()]
        texts = [event["text"] for event in events if event["type"] == "query"]
        assert "Tell me when it is green." in texts
        seen.wait("edge-run/availability", "offline")
        seen.wait("edge-run/door/watching", "OFF")
        assert "q1_threshold" in seen.components()  # the device stays


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("threshold", "", "from 0 to 1, got ''"),
        ("threshold", "-0.1", "from 0 to 1"),
        ("threshold", "1e400", "from 0 to 1"),
        ("paused", "on", "expected ON or OFF"),
        ("question", "\n", "the question is empty"),
    ],
)
def test_values_that_mean_nothing_are_refused(field, value, problem):
    with pytest.raises(ConfigError, match=problem):
        read_change(field, value)
