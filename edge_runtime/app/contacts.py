"""What a configuration may contact: hosts and ports of cameras and sinks, never a path or a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from edge_runtime.app.config_file import Config
from edge_runtime.config.cameras import CameraConfig
from edge_runtime.errors import Finding
from edge_runtime.video.network_url import UnreadableUrlError, host_and_port, read_url

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def contacts(config: Config, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Cameras, sinks, the address of the metrics, and proxies. The subject is the party, the detail its host
    and port or, with ``warn``, why they are not known.
    """
    for camera in config.cameras:
        yield from _camera(camera)
    if config.endpoint:
        url = urlsplit(config.endpoint.url)
        where = host_and_port(url.hostname or "", url.port or _PORTS[url.scheme])
        yield Finding("endpoint", "ok", f"{where} ({url.scheme})")
    for sink in config.sinks:
        yield from sink.contacts(environment)
    if config.runtime.metrics is not None:
        host, port = config.runtime.metrics
        yield Finding("metrics", "ok", f"listens on {host_and_port(host, port)}")
    if config.web.address is not None:
        yield Finding("web", "ok", f"listens on {host_and_port(*config.web.address)}")
    if any(camera.source.lower().startswith(("http://", "https://")) for camera in config.cameras):
        yield from _proxies(environment)


def _camera(camera: CameraConfig) -> Iterator[Finding]:
    """Nothing for files, devices and test images."""
    scheme = camera.source.partition("://")[0].lower() if "://" in camera.source else ""
    if scheme not in (*_PORTS, "srt"):
        return
    address = camera.source.partition("?")[0] if scheme == "srt" else camera.source
    try:
        url = read_url(address, needs_host=scheme != "srt")
    except UnreadableUrlError:
        yield Finding(f"camera {camera.name}", "warn", "its source cannot be read")
        return
    where = host_and_port(url.host or "0.0.0.0", url.port or _PORTS.get(scheme))
    listens = scheme == "srt" and "mode=listener" in camera.source
    yield Finding(f"camera {camera.name}", "ok", f"{'listens on ' if listens else ''}{where} ({scheme})")


def _proxies(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Of cameras; sinks connect directly."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        if address := environment.get(name):
            try:
                url = read_url(address if "://" in address else f"http://{address}")
            except UnreadableUrlError:
                yield Finding(f"proxy of {name}", "warn", "its address cannot be read")
            else:
                yield Finding(f"proxy of {name}", "ok", host_and_port(url.host, url.port))
