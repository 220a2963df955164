"""Keeps Home Assistant up to date about a run, and carries out what is set there.

A connection of its own to the broker, and a thread that compares what was published with what
:class:`~edge_runtime.app.run.control.Control` says: after each event and reconnect, on the birth message of
Home Assistant, and every few seconds. Only differences are published. What arrives is kept by topic, the
newest value of each, so nothing grows while the thread is busy.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import threading
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from edge_runtime.app.run.control import Control, QueryChange, Scores, UnknownCameraError
from edge_runtime.app.run.run_config import RunConfig
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.events.records import Event
from edge_runtime.sinks.home_assistant import (
    FIELDS,
    OFF,
    ON,
    Topics,
    components_before,
    discovery_payload,
    last_response,
    query_of,
)
from edge_runtime.sinks.mqtt import MqttConfig, make_client, topic_level
from edge_runtime.sinks.snapshots import WAIT_S, Snapshots, read
from edge_runtime.video.source import Frame

LOOK_EVERY_S = 10.0
MOST_CHANGES = 256
"""Topics with something to set that may wait at a time."""
MOST_PAYLOAD_BYTES = 4096
MOST_SNAPSHOT_BYTES = 512 << 10
"""A larger snapshot is made smaller: brokers keep it, and some take no message above 1 MB."""

_LOOK_FOR_SNAPSHOT_S = 0.2
_SMALLER = (1280, 1280)
_KEEP_ALIVE_S = 30
_FLUSH_S = 2.0
_JPEG_QUALITY = 85
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_log = logging.getLogger(__name__)


class HomeAssistant:
    """Runs until :meth:`close`. ``configured``: cameras whose devices stay although they are not watched now;
    ``evidence``: the folder that has snapshots of responses.

    Raises SinkError and ConfigError as the sink :class:`~edge_runtime.sinks.mqtt.Mqtt` does.
    """

    def __init__(
        self,
        config: MqttConfig,
        control: Control,
        configured: Collection[str] = (),
        evidence: Path | None = None,
        longest_pause_s: int = 30,
    ) -> None:
        self.name = f"Home Assistant by {config.label} ({config.host})"
        self._topics = Topics(config.topic, config.discovery_prefix)
        self._control = control
        self._configured = frozenset(configured)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._connected = False
        self._published: dict[str, str | bytes] = {}
        """What the broker has of us, by topic, since the connection began."""
        self._components: dict[str, frozenset[str]] = {}
        """Of each camera's device, as it was published."""
        self._found: dict[str, frozenset[str]] = {}
        """The same of devices of earlier runs, by camera."""
        self._changes: dict[tuple[str, str, str], str] = {}
        self._responses: dict[str, Event] = {}
        self._frames: dict[str, Frame] = {}
        """Of responses whose snapshot is not published yet."""
        self._evidence = Snapshots(evidence)
        self._awaited: dict[str, tuple[Path | None, float]] = {}
        """Of the last responses, the evidence snapshot and until when it may appear."""
        self._snapshots: dict[str, bytes] = {}
        self._speaking: set[str] = set()
        self._last: Any = None
        self._client = make_client(config, config.password.read(config.label))
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, longest_pause_s)
        self._unsubscribe = [control.subscribe(self._on_event), control.subscribe_scores(self._on_scores)]
        self._client.connect_async(config.host, config.any_port, keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish the last states and disconnect; the sink says that everything is unavailable."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._ending = True
        self._wake.set()
        self._thread.join(_FLUSH_S)
        if self._connected and self._last is not None:
            with suppress(RuntimeError, ValueError):
                self._last.wait_for_publish(_FLUSH_S)
        self._client.disconnect()
        self._client.loop_stop()

    # What happens elsewhere: noted here, done by the thread.

    def _on_event(self, event: Event) -> None:
        camera = event["stream"]
        if event["type"] == "response":
            self._responses[camera] = event
            self._await_snapshot(camera, event)
            self._speaking.add(camera)
        if event["type"] != "stats":
            self._wake.set()

    def _await_snapshot(self, camera: str, event: Event) -> None:
        path, until = self._evidence.find(event), time.monotonic() + WAIT_S
        if camera in self._frames:  # of a response before, which must not be put off again and again
            until = self._awaited.get(camera, (path, until))[1]
        self._awaited[camera] = (path, until)

    def _on_scores(self, scores: Scores) -> None:
        """The timestep is over, and its frame is the newest: that of the response, if there was one."""
        if scores.camera in self._speaking:
            self._speaking.discard(scores.camera)
            frame = self._control.latest_frame(scores.camera)
            if frame is not None:
                self._frames[scores.camera] = frame
                self._wake.set()

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            return  # the sink of the same broker logs it
        topics = self._topics
        wanted = [topics.birth, topics.devices, *topics.all_sets]
        client.subscribe([(topic, 1) for topic in wanted])
        self._connected = True
        self._publish_all_again()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        self._connected = False

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        topic, payload = message.topic, bytes(message.payload)
        if topic == self._topics.birth:
            if payload == b"online":
                self._publish_all_again()
        elif topic.endswith("/set"):
            self._note_set(topic, payload, retained=message.retain)
        elif message.retain and payload and (found := components_before(payload, self._topics)):
            camera, components = found
            with self._lock:
                self._found[camera] = components
            self._wake.set()

    def _note_set(self, topic: str, payload: bytes, *, retained: bool) -> None:
        key = self._topics.read_set(topic)
        if key is None:
            return
        if retained:
            _log.warning("%s: %s is retained and was ignored; publish it without retain", self.name, topic)
            return
        if len(payload) > MOST_PAYLOAD_BYTES:
            _log.warning("%s: %s: more than %d bytes, ignored", self.name, topic, MOST_PAYLOAD_BYTES)
            return
        try:
            value = payload.decode()
        except UnicodeDecodeError:
            _log.warning("%s: %s is not UTF-8 text and was ignored", self.name, topic)
            return
        with self._lock:
            if key not in self._changes and len(self._changes) >= MOST_CHANGES:
                _log.warning("%s: %s: too many changes wait, ignored", self.name, topic)
                return
            self._changes[key] = value
        self._wake.set()

    def _publish_all_again(self) -> None:
        with self._lock:
            self._published.clear()
        self._wake.set()

    # The thread.

    def _run(self) -> None:
        ending = False
        while not ending:
            looking = self._connected and self._frames
            self._wake.wait(_LOOK_FOR_SNAPSHOT_S if looking else LOOK_EVERY_S)
            self._wake.clear()
            ending = self._ending  # once more after it was set: the last states
            try:
                self._carry_out_changes()
                self._publish_differences()
            except Exception as err:  # the watching must go on, and so must this
                _log.warning("%s: unexpected %s: %s", self.name, type(err).__name__, err)

    def _carry_out_changes(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, {}
        for (level, query, field), value in changes.items():
            try:
                camera = self._camera_at(level)
                self._control.change(camera, query, read_change(field, value))
            except EdgeError as err:
                _log.warning("%s: %s/%s/%s/set: %s", self.name, level, query, field, err)
            with self._lock:  # whatever was shown there: what holds is shown again
                self._published.pop(f"{self._topics.topic}/{level}/{query}/{field}", None)

    def _camera_at(self, level: str) -> str:
        for camera in self._control.cameras():
            if topic_level(camera.name) == level:
                return camera.name
        raise UnknownCameraError(f"{level}: no such camera is watched")

    def _publish_differences(self) -> None:
        if not self._connected:
            return
        cameras = self._control.cameras()
        for camera in cameras:
            try:
                queries = self._control.queries(camera.name)
            except UnknownCameraError:  # it went a moment ago
                continue
            self._publish_device(camera.name, [query.id for query in queries])
            topics = self._topics
            self._publish(topics.of_camera(camera.name, "watching"), ON if camera.state == "live" else OFF)
            for query in queries:
                states = (f"{query.threshold:g}", query.text, ON if query.paused else OFF)
                for field, state in zip(FIELDS, states, strict=True):
                    self._publish(topics.of_query(camera.name, query.id, field), state)
            if (event := self._responses.get(camera.name)) is not None:
                self._publish(
                    topics.of_camera(camera.name, "last_response"),
                    json.dumps(last_response(event), ensure_ascii=False),
                )
            self._look_for_snapshot(camera.name)
            if (snapshot := self._snapshots.get(camera.name)) is not None:
                self._publish(topics.of_camera(camera.name, "snapshot"), snapshot)
        self._remove_devices({camera.name for camera in cameras})

    def _look_for_snapshot(self, camera: str) -> None:
        """Take the last response's evidence once it is there; its frame when there will be none."""
        frame = self._frames.pop(camera, None)
        if frame is None:
            return
        path, until = self._awaited.get(camera, (None, 0.0))
        picture = None if path is None else read(path)
        if picture is not None:
            self._snapshots[camera] = small_enough(picture)
        elif path is None or self._ending or time.monotonic() >= until:
            self._snapshots[camera] = jpeg(frame)
        else:
            self._frames.setdefault(camera, frame)  # later, unless there is a newer one by now

    def _publish_device(self, camera: str, queries: list[str]) -> None:
        """The camera's device, after what it had before and has no more was removed from it."""
        topics = self._topics
        topic = topics.discovery(topics.device(camera))
        payload = discovery_payload(topics, camera, queries)
        now = frozenset(payload["components"])
        with self._lock:
            before = self._components.get(camera, frozenset()) | self._found.pop(camera, frozenset())
        if gone := before - now:
            self._publish(topic, json.dumps(discovery_payload(topics, camera, queries, gone)))
            for query in {query for id in gone if (query := query_of(id)) is not None}:
                for field in FIELDS:
                    self._publish(topics.of_query(camera, query, field), "")
        self._components[camera] = now
        self._publish(topic, json.dumps(payload))

    def _remove_devices(self, watched: Collection[str]) -> None:
        """Devices of cameras that are not watched any more, nor in the configuration."""
        with self._lock:
            found = {camera: parts for camera, parts in self._found.items() if camera not in watched}
            self._found = {camera: parts for camera, parts in self._found.items() if camera in watched}
        gone = {
            camera: parts for camera, parts in {**found, **self._components}.items() if camera not in watched
        }
        topics = self._topics
        for camera, components in gone.items():
            if camera in found and camera in self._configured:
                continue
            self._components.pop(camera, None)
            for kept in (self._responses, self._frames, self._awaited, self._snapshots):
                kept.pop(camera, None)
            self._speaking.discard(camera)
            queries = {query for id in components if (query := query_of(id)) is not None}
            for topic in (
                topics.discovery(topics.device(camera)),
                *(topics.of_camera(camera, name) for name in ("watching", "last_response", "snapshot")),
                *(topics.of_query(camera, query, field) for query in queries for field in FIELDS),
            ):
                self._publish(topic, "")
                with self._lock:
                    self._published.pop(topic, None)

    def _publish(self, topic: str, payload: str | bytes) -> None:
        """Retained, unless the broker has it already."""
        with self._lock:
            if self._published.get(topic) == payload:
                return
            self._published[topic] = payload
        self._last = self._client.publish(topic, payload, qos=1, retain=True)


def open_all(config: RunConfig, control: Control) -> ExitStack:
    """One for each broker with ``home_assistant = true``, until the stack is closed. Raises EdgeError."""
    with ExitStack() as stack:
        for sink in config.sinks:
            if not isinstance(sink, MqttConfig) or not sink.home_assistant:
                continue
            try:
                bridge = HomeAssistant(sink, control, config.configured, config.evidence.folder)
                stack.callback(bridge.close)
            except EdgeError:
                if config.needs_sinks:  # otherwise the sink has been left out, with a warning
                    raise
        return stack.pop_all()


def read_change(field: str, value: str) -> QueryChange:
    """What a ``set`` message asks for. Raises ConfigError."""
    text = value.strip()
    if field == "question":
        if not text:
            raise ConfigError("the question is empty; publish its text")
        if _CONTROL.search(text):
            raise ConfigError("the question holds control characters; publish one line of text")
        return QueryChange(text=text)
    if field == "paused":
        if text not in (ON, OFF):
            raise ConfigError(f"expected {ON} or {OFF}, got {text[:20]!r}")
        return QueryChange(paused=text == ON)
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"expected a threshold from 0 to 1, got {text[:20]!r}")
    return QueryChange(threshold=threshold)


def jpeg(frame: Frame) -> bytes:
    """The frame as a JPEG file."""
    from PIL import Image

    return _saved(Image.fromarray(frame.image))


def small_enough(picture: bytes) -> bytes:
    """The JPEG, with fewer pixels if it is too large for a retained message."""
    if len(picture) <= MOST_SNAPSHOT_BYTES:
        return picture
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        image.thumbnail(_SMALLER)
        return _saved(image)


def _saved(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()
