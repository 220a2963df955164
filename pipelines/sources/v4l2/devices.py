"""The cameras of this machine."""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass
from typing import Any

from pipelines.gst import load
from pipelines.sources.errors import Problem

NO_PERMISSION = Problem(
    "no permission to use the camera", "run `sudo usermod -aG video $USER` and log in again", "permanent"
)


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


def check_device(path: str) -> Problem | None:
    """Say what is wrong with a camera's device file before it is opened."""
    if not os.path.exists(path):
        return Problem("no such camera", "plug it in; `edge-run doctor` lists the cameras of this machine")
    if not stat.S_ISCHR(os.stat(path).st_mode):
        return Problem("is not a camera device", "give /dev/videoN", "permanent")
    if not os.access(path, os.R_OK | os.W_OK):
        return NO_PERMISSION
    return None
