"""Discovery payloads against the keys that Home Assistant documents, and the topics in them."""

from __future__ import annotations

import json
import re

import pytest

from edge_runtime.app.config_file import load_config
from edge_runtime.errors import ConfigError
from edge_runtime.sinks.home_assistant import (
    Topics,
    components_before,
    discovery_payload,
    last_response,
    query_of,
)
from edge_runtime.sinks.mqtt import MqttConfig

TOPICS = Topics("edge-run", "homeassistant")
TOPIC = {"type": "string", "pattern": r"^[^+#\x00]+$"}
TEXT, NUMBER = {"type": "string", "minLength": 1}, {"type": "number"}
ENTITY = {
    "unique_id": TEXT,
    "name": TEXT,
    "icon": {"type": "string", "pattern": "^mdi:[a-z-]+$"},
    "entity_category": {"enum": ["config", "diagnostic"]},
}
READ = {"state_topic": TOPIC, "value_template": TEXT, "json_attributes_topic": TOPIC}
WRITE = {"state_topic": TOPIC, "command_topic": TOPIC}


def component(platform: str, required: list[str], properties: dict) -> dict:
    return {
        "type": "object",
        "properties": {"platform": {"const": platform}, **ENTITY, **properties},
        "required": ["platform", "unique_id", "name", *required],
        "additionalProperties": False,
    }


# The keys that the documentation of Home Assistant's MQTT integration gives for each platform, as far as they
# are used here.
COMPONENTS = {
    "binary_sensor": component(
        "binary_sensor", ["state_topic"], {**READ, "device_class": {"const": "running"}}
    ),
    "sensor": component("sensor", ["state_topic"], READ),
    "event": component(
        "event",
        ["state_topic", "event_types"],
        {**READ, "event_types": {"type": "array", "items": TEXT, "minItems": 1}},
    ),
    "image": component(
        "image", ["image_topic"], {"image_topic": TOPIC, "content_type": {"const": "image/jpeg"}}
    ),
    "number": component(
        "number",
        ["command_topic", "state_topic"],
        {
            **WRITE,
            "min": NUMBER,
            "max": NUMBER,
            "step": {"type": "number", "minimum": 0.001},
            "mode": {"enum": ["auto", "box", "slider"]},
        },
    ),
    "text": component(
        "text",
        ["command_topic", "state_topic"],
        {**WRITE, "min": {"type": "integer", "minimum": 0}, "max": {"type": "integer", "maximum": 255}},
    ),
    "switch": component("switch", ["command_topic", "state_topic"], WRITE),
}
REMOVED = {
    "type": "object",
    "properties": {"platform": {"enum": list(COMPONENTS)}},
    "required": ["platform"],
    "additionalProperties": False,
}
DEVICE = {
    "type": "object",
    "properties": {
        "device": {
            "type": "object",
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                "name": TEXT,
                "manufacturer": TEXT,
                "model": TEXT,
                "sw_version": TEXT,
            },
            "required": ["identifiers", "name"],
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "properties": {"name": TEXT, "sw_version": TEXT},
            "required": ["name"],
            "additionalProperties": False,
        },
        "availability_topic": TOPIC,
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "additionalProperties": {"anyOf": [*COMPONENTS.values(), REMOVED]},
            "minProperties": 4,
        },
    },
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
}


def validate(payload: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(payload, DEVICE)


@pytest.mark.parametrize("camera", ["door", "rtsp://h/a b", "Tür", "$x"])
def test_a_device_has_the_documented_keys(camera):
    payload = json.loads(json.dumps(discovery_payload(TOPICS, camera, ["q1", "q2"], ["q7_paused", "door"])))
    validate(payload)
    parts = payload["components"]
    assert parts.pop("q7_paused") == {"platform": "switch"} and "door" not in parts
    assert sorted(parts) == sorted(
        ["watching", "last_response", "response", "snapshot"]
        + [f"{query}_{field}" for query in ("q1", "q2") for field in ("threshold", "question", "paused")]
    )
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    topic = TOPICS.discovery(TOPICS.device(camera))
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
    level = parts["watching"]["state_topic"].split("/")[1]
    assert parts["q2_paused"]["state_topic"] == f"edge-run/{level}/q2/paused"


def test_the_schema_of_this_test_finds_mistakes():
    jsonschema = pytest.importorskip("jsonschema")
    for spoil in (
        lambda p: p.pop("origin"),
        lambda p: p["components"]["q1_threshold"].pop("command_topic"),
        lambda p: p["components"]["q1_question"].update(max=300),
        lambda p: p["components"]["response"].pop("event_types"),
        lambda p: p["components"]["snapshot"].update(state_topic="a"),
        lambda p: p["device"].update(identifiers=[]),
    ):
        payload = discovery_payload(TOPICS, "door", ["q1"])
        spoil(payload)
        with pytest.raises(jsonschema.ValidationError):
            validate(payload)


def test_cameras_whose_names_differ_little_are_devices_of_their_own():
    names = ["a b", "a_b", "a/b", "ab"]
    assert len({TOPICS.device(name) for name in names}) == len(names)


def test_a_set_topic_is_read_as_it_is_written():
    payload = discovery_payload(TOPICS, "front door", ["q1"])
    topic = payload["components"]["q1_threshold"]["command_topic"]
    assert topic == "edge-run/front_door/q1/threshold/set"
    assert TOPICS.read_set(topic) == ("front_door", "q1", "threshold")
    for other in ("edge-run/door/q1/text/set", "edge-run/door/threshold/set", "edge-run/a/b/c/threshold/set"):
        assert TOPICS.read_set(other) is None


def test_only_our_own_payload_is_recognized():
    payload = discovery_payload(TOPICS, "door", ["q1"])
    found = components_before(json.dumps(payload).encode(), TOPICS)
    assert found is not None and found[0] == "door" and "q1_paused" in found[1]
    assert components_before(json.dumps(payload).encode(), Topics("other", "homeassistant")) is None
    for text in (b"", b"{", b"[]", b"3", b'{"origin": {"name": "zigbee2mqtt"}}', b'{"origin": 3}', b"\xff"):
        assert components_before(text, TOPICS) is None
    assert query_of("q1_threshold") == "q1" and query_of("last_response") is query_of("snapshot") is None


def test_a_long_response_is_a_state_that_home_assistant_takes():
    event = {"text": "x" * 300, "query": "q1", "question": "?", "score": 0.9, "time": 1.0, "stream": "door"}
    shown = last_response(event)
    assert len(shown["state"]) == 255 and shown["text"] == event["text"] and "stream" not in shown


def test_its_keys(tmp_path):
    path = tmp_path / "edge-run.toml"
    start = "[[mqtt]]\nname = 'home'\nhost = 'h'\nhome_assistant = true\n"
    path.write_text(start + "discovery_prefix = 'ha'\n")
    (mqtt,) = load_config(path).sinks
    assert isinstance(mqtt, MqttConfig) and mqtt.home_assistant and mqtt.discovery_prefix == "ha"
    for keys, problem in (
        ("discovery_prefix = 'ha/#'", "mqtt.discovery_prefix: expected a topic without wildcards"),
        ("events = ['stats']", "mqtt.home_assistant: its event entity needs responses"),
    ):
        path.write_text(start + keys)
        with pytest.raises(ConfigError, match=problem):
            load_config(path)
