"""The cameras of this machine."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import load
from pipelines.sources.errors import check_device
from pipelines.sources.registry import DeviceSource


@dataclass(frozen=True)
class CameraInfo:
    """One camera: ``source`` is what to write for it (``/dev/video0``)."""

    name: str
    source: str


def list_cameras() -> list[CameraInfo]:
    """Cameras in a stable order, from GStreamer's device monitor or else the device files that exist."""
    found: dict[str, CameraInfo] = {}
    for device in _monitor_devices():
        properties = device.get_properties()
        path = properties and (properties.get_string("api.v4l2.path") or properties.get_string("device.path"))
        if path and path not in found:
            found[path] = CameraInfo(device.get_display_name() or path, path)
    if not found:
        found = {
            path: CameraInfo(path, path) for path in glob.glob("/dev/video[0-9]*") if os.path.exists(path)
        }
    return sorted(found.values(), key=lambda camera: [int(n) for n in re.findall(r"\d+", camera.source)])


def _monitor_devices() -> list[Any]:
    Gst = load().Gst
    monitor = Gst.DeviceMonitor.new()
    monitor.add_filter("Video/Source", None)
    if not monitor.start():
        return []
    try:
        return list(monitor.get_devices() or [])
    finally:
        monitor.stop()


def resolve(source: DeviceSource) -> DeviceSource:
    """``cameraN`` becomes its device file. Raises SourceError when there is none or it may not be used."""
    if source.path is None:
        cameras = list_cameras()
        if not cameras:
            raise SourceError(
                "no camera found on this machine; try `edge-run sample`, give a video file or an rtsp:// "
                "URL, or see `edge-run --help`"
            )
        index = source.index or 0
        if index >= len(cameras):
            names = ", ".join(f"camera{i} ({camera.name})" for i, camera in enumerate(cameras))
            raise SourceError(f"camera{index}: no such camera; this machine has {names}")
        source = DeviceSource(path=cameras[index].source, index=index)
    if (problem := check_device(source.path or "")) is not None:
        raise SourceError(problem.line(source.label), permanent=problem.kind == "permanent")
    return source
