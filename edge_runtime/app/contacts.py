"""What a configuration may contact: hosts and ports of cameras and receivers, never a path or a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edge_runtime.config.cameras import CameraConfig
from edge_runtime.config.schema import Config
from edge_runtime.errors import ConfigError
from edge_runtime.sinks.registry import MqttConfig, ReceiverConfig, WebhookConfig
from edge_runtime.video.network_url import UnreadableUrlError, read_url

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


@dataclass(frozen=True)
class Contact:
    """One party. ``known`` is False when its address could not be read."""

    who: str
    """``camera door``"""
    where: str
    """``cam.local:554 (rtsp)``, or why it is not known."""
    known: bool = True


def contacts(config: Config, environment: Mapping[str, str] = os.environ) -> Iterator[Contact]:
    """Cameras, receivers and who may connect to the metrics, in the order of the file; then the proxy."""
    for camera in config.cameras:
        yield from _camera(camera)
    for receiver in config.receivers:
        yield _receiver(receiver, environment)
    if config.runtime.metrics is not None:
        host, port = config.runtime.metrics
        yield Contact("metrics", f"listens on {_address(host, port)}")
    if any(camera.source.lower().startswith(("http://", "https://")) for camera in config.cameras):
        yield from _proxies(environment)


def _camera(camera: CameraConfig) -> Iterator[Contact]:
    """Nothing for files, devices and test pictures."""
    scheme = camera.source.partition("://")[0].lower() if "://" in camera.source else ""
    if scheme not in (*_PORTS, "srt"):
        return
    address = camera.source.partition("?")[0] if scheme == "srt" else camera.source
    try:
        url = read_url(address, needs_host=scheme != "srt")
    except UnreadableUrlError:
        yield Contact(f"camera {camera.name}", "its source cannot be read", known=False)
        return
    where = _address(url.host or "0.0.0.0", url.port or _PORTS.get(scheme))
    listens = scheme == "srt" and "mode=listener" in camera.source
    yield Contact(f"camera {camera.name}", f"{'listens on ' if listens else ''}{where} ({scheme})")


def _proxies(environment: Mapping[str, str]) -> Iterator[Contact]:
    """Of cameras; receivers are connected to directly."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        if address := environment.get(name):
            try:
                url = read_url(address if "://" in address else f"http://{address}")
            except UnreadableUrlError:
                yield Contact(f"proxy of {name}", "its address cannot be read", known=False)
            else:
                yield Contact(f"proxy of {name}", _address(url.host, url.port))


def _receiver(receiver: ReceiverConfig, environment: Mapping[str, str]) -> Contact:
    if isinstance(receiver, MqttConfig):
        port = receiver.port or (8883 if receiver.tls else 1883)
        return Contact(f"MQTT {receiver.name}", f"{_address(receiver.host, port)} (mqtt)")
    assert isinstance(receiver, WebhookConfig)
    who = f"webhook {receiver.name}"
    try:
        url = read_url(receiver.url_from.read(who, environment) or receiver.url)
    except ConfigError as err:
        return Contact(who, str(err).partition(": ")[2], known=False)
    except UnreadableUrlError:
        return Contact(who, "its address cannot be read", known=False)
    return Contact(who, f"{_address(url.host, url.port or _PORTS.get(url.scheme))} ({url.scheme})")


def _address(host: str, port: int | None) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"
