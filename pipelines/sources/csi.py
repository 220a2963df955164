"""A CSI camera of a Jetson or Raspberry Pi: ``csi://0``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import caps_filter, load, make
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import Problem, StreamError

_CAPS = "width=(int)1280, height=(int)720, framerate=(fraction)30/1"


@dataclass(frozen=True)
class CsiSource(Source):
    """A camera on the CSI connector: ``index`` counts the board's sensors."""

    index: int = 0
    kind = "csi camera"
    live = True
    decoder = "none"

    @property
    def label(self) -> str:
        return f"csi://{self.index}"

    def exclusive_key(self) -> object:
        return self

    def make_elements(self, context: ElementContext) -> list[Any]:
        """A Jetson's camera through its ISP; on other boards through libcamera."""
        find = load().Gst.ElementFactory.find
        if find("nvarguscamerasrc") is not None:
            return [
                make("nvarguscamerasrc", sensor_id=self.index),
                caps_filter(f"video/x-raw(memory:NVMM), format=(string)NV12, {_CAPS}"),
                make("nvvidconv"),
                caps_filter("video/x-raw, format=(string)NV12"),
            ]
        if find("libcamerasrc") is None:
            raise SourceError(
                f"{self.label}: neither nvarguscamerasrc (Jetson) nor libcamerasrc is installed; on a Jetson "
                "install `nvidia-l4t-gstreamer`, elsewhere `gstreamer1.0-libcamera`",
                permanent=True,
            )
        if self.index:
            raise SourceError(f"{self.label}: libcamera has names, not numbers; use csi://0", permanent=True)
        return [make("libcamerasrc"), caps_filter(f"video/x-raw, {_CAPS}")]

    def explain(self, error: StreamError) -> Problem:
        return Problem(f"the camera stopped ({error.detail})", "check its cable and `nvargus-daemon`")


def parse(text: str) -> CsiSource | None:
    match = re.fullmatch(r"csi://(\d{0,2})", text)
    return CsiSource(int(match[1] or 0)) if match else None
