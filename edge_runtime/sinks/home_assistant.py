"""Devices of Home Assistant: its MQTT discovery payload for a camera, and the topics that the payload names.

One device per camera, by device-based discovery (Home Assistant 2024.11 and later), retained at
``<prefix>/device/<id>/config``. Below ``<topic>/<stream>/``:

    watching, last_response, snapshot          state of the camera, retained
    response                                   events, as the sink publishes them
    <query>/threshold, /question, /paused      state of a query, retained
    <query>/threshold/set, ...                 what is to change

See https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edge_runtime.sinks.mqtt import availability_topic, topic_level

ORIGIN = "StreamPro Edge"
ON, OFF = "ON", "OFF"
FIELDS = ("threshold", "question", "paused")
"""What can be seen and set of a query."""
LONGEST_STATE = 255
"""Home Assistant refuses a longer state."""

_PLATFORMS = {"threshold": "number", "question": "text", "paused": "switch"}
_EVENT = "{{ dict(value_json, event_type='response') | tojson }}"


@dataclass(frozen=True)
class Topics:
    """Topics of one broker: ``topic`` of the sink and ``prefix`` of Home Assistant."""

    topic: str
    prefix: str

    @property
    def birth(self) -> str:
        """Home Assistant publishes ``online`` here when it has started."""
        return f"{self.prefix}/status"

    @property
    def devices(self) -> str:
        """Discovery of all devices, those of other programs included."""
        return f"{self.prefix}/device/+/config"

    @property
    def all_sets(self) -> tuple[str, ...]:
        return tuple(f"{self.topic}/+/+/{field}/set" for field in FIELDS)

    def discovery(self, device: str) -> str:
        return f"{self.prefix}/device/{device}/config"

    def of_camera(self, camera: str, name: str) -> str:
        return f"{self.topic}/{topic_level(camera)}/{name}"

    def of_query(self, camera: str, query: str, field: str) -> str:
        return self.of_camera(camera, f"{query}/{field}")

    def read_set(self, topic: str) -> tuple[str, str, str] | None:
        """The stream's level, the query and the field that a ``set`` topic is for."""
        levels = topic.removeprefix(f"{self.topic}/").split("/")
        if len(levels) != 4 or levels[2] not in FIELDS or levels[3] != "set":
            return None
        return levels[0], levels[1], levels[2]

    def device(self, camera: str) -> str:
        """The id of a camera's device: unique, and of the characters that Home Assistant allows."""
        name = f"{self.topic}_{camera}"
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        return plain if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def discovery_payload(
    topics: Topics, camera: str, queries: Iterable[str], removed: Iterable[str] = ()
) -> dict[str, Any]:
    """The device of a camera with these ids of queries; ``removed``: ids of components that it had before."""
    device = topics.device(camera)
    components = {
        **_camera_components(topics, camera),
        **{
            f"{query}_{field}": _query_component(topics, camera, query, field)
            for query in queries
            for field in FIELDS
        },
    }
    for id, component in components.items():
        component["unique_id"] = f"{device}_{id}"
    for id in removed:  # a component of its platform alone is one that goes
        if id not in components and (platform := _platform(id)):
            components[id] = {"platform": platform}
    return {
        "device": {
            "identifiers": [device],
            "name": camera,
            "manufacturer": ORIGIN,
            "model": "camera with questions",
            "sw_version": _version(),
        },
        "origin": {"name": ORIGIN, "sw_version": _version()},
        "availability_topic": availability_topic(topics.topic),
        "qos": 1,
        "components": components,
    }


def components_before(payload: bytes, topics: Topics) -> tuple[str, frozenset[str]] | None:
    """The camera and the component ids of a discovery payload, if it is one of ours for this topic."""
    try:
        data = json.loads(payload)
        ours = data["origin"]["name"] == ORIGIN
        ours = ours and data["availability_topic"] == availability_topic(topics.topic)
        return (str(data["device"]["name"]), frozenset(data["components"])) if ours else None
    except (ValueError, KeyError, TypeError):
        return None


def query_of(component: str) -> str | None:
    """The query that a component belongs to; None for one of the camera."""
    query, _, field = component.rpartition("_")
    return query if query and field in FIELDS and component not in _CAMERA_PLATFORMS else None


def last_response(event: Mapping[str, Any]) -> dict[str, Any]:
    """State and attributes of the sensor."""
    text = str(event["text"])
    state = text if len(text) <= LONGEST_STATE else f"{text[: LONGEST_STATE - 1]}…"
    kept = ("text", "question", "query", "score", "time", "wall_time", "id")
    return {"state": state, **{key: event[key] for key in kept if key in event}}


_CAMERA_PLATFORMS = {
    "watching": "binary_sensor",
    "last_response": "sensor",
    "response": "event",
    "snapshot": "image",
}


def _camera_components(topics: Topics, camera: str) -> dict[str, dict[str, Any]]:
    def at(name: str) -> str:
        return topics.of_camera(camera, name)

    return {
        "watching": {
            "platform": "binary_sensor",
            "name": "Watching",
            "device_class": "running",
            "entity_category": "diagnostic",
            "state_topic": at("watching"),
        },
        "last_response": {
            "platform": "sensor",
            "name": "Last response",
            "icon": "mdi:message-text",
            "state_topic": at("last_response"),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": at("last_response"),
        },
        "response": {
            "platform": "event",
            "name": "Response",
            "icon": "mdi:message-alert",
            "event_types": ["response"],
            "state_topic": at("response"),
            "value_template": _EVENT,
        },
        "snapshot": {
            "platform": "image",
            "name": "Snapshot",
            "content_type": "image/jpeg",
            "image_topic": at("snapshot"),
        },
    }


def _query_component(topics: Topics, camera: str, query: str, field: str) -> dict[str, Any]:
    state = topics.of_query(camera, query, field)
    options: dict[str, dict[str, Any]] = {
        "threshold": {"min": 0.0, "max": 1.0, "step": 0.01, "mode": "slider", "icon": "mdi:tune"},
        "question": {"min": 1, "max": LONGEST_STATE, "icon": "mdi:comment-question"},
        "paused": {"icon": "mdi:pause-circle"},
    }
    return {
        "platform": _PLATFORMS[field],
        "name": f"{query} {field}",
        "entity_category": "config",
        "state_topic": state,
        "command_topic": f"{state}/set",
        **options[field],
    }


def _platform(component: str) -> str | None:
    if query_of(component) is not None:
        return _PLATFORMS[component.rpartition("_")[2]]
    return _CAMERA_PLATFORMS.get(component)


def _version() -> str:
    try:
        return metadata.version("streampro-edge")
    except metadata.PackageNotFoundError:
        return "unknown"
