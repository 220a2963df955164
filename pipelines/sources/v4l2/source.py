"""A camera of this machine: ``/dev/video0``, or ``camera0`` for the first one found."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import caps_filter, load, make
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import Problem, StreamError
from pipelines.sources.v4l2 import devices, formats


@dataclass(frozen=True)
class DeviceSource(Source):
    """A camera by its device file, or the ``index``-th one found."""

    path: str | None = None
    index: int | None = None
    kind = "camera"
    live = True

    @property
    def label(self) -> str:
        return self.path or f"camera{self.index}"

    def resolve(self) -> DeviceSource:
        """``cameraN`` becomes its device file. Raises SourceError when it is not there or not allowed."""
        source = self
        if self.path is None:
            cameras = devices.list_cameras()
            if not cameras:
                raise SourceError(
                    "no camera found on this machine; try `edge-run sample`, give a video file or an rtsp:// "
                    "URL, or see `edge-run --help`"
                )
            index = self.index or 0
            if index >= len(cameras):
                names = ", ".join(f"camera{i} ({camera.name})" for i, camera in enumerate(cameras))
                raise SourceError(f"camera{index}: no such camera; this machine has {names}")
            source = DeviceSource(path=cameras[index].source, index=index)
        if (problem := devices.check_device(source.path or "")) is not None:
            raise SourceError(problem.line(source.label), permanent=problem.kind == "permanent")
        return source

    def exclusive_key(self) -> object:
        source = self
        with suppress(SourceError):
            source = self.resolve()
        return os.path.realpath(source.path) if source.path else source

    def make_elements(self, context: ElementContext) -> list[Any]:
        """v4l2src, and a filter for the format chosen from what the camera offers."""
        Gst = load().Gst
        element = make("v4l2src", device=self.path)
        chosen = None
        if element.set_state(Gst.State.READY) != Gst.StateChangeReturn.FAILURE:  # opened: asks the driver
            chosen = formats.choose(formats.offers(element.get_static_pad("src").query_caps(None)))
            element.set_state(Gst.State.NULL)
        return [element] if chosen is None else [element, caps_filter(formats.filter_for(chosen))]

    def explain(self, error: StreamError) -> Problem:
        if error.domain != "resource":
            return Problem(f"the camera gives no usable frame ({error.detail})", "see `edge-run doctor`")
        if error.code == 4 or "busy" in error.words:
            owner = f"`fuser -v {self.path}` shows which program" if self.path else "close the other program"
            return Problem("the camera is busy: another program is using it", owner)
        if "permission denied" in error.debug.lower():
            return devices.NO_PERMISSION
        if any(words in error.words for words in ("not a capture device", "isn't a v4l2 driver")):
            return Problem(
                "the device gives no video", "use another /dev/video number; `edge-run doctor` lists cameras"
            )
        if error.code in (3, 5, 7):
            cause = f"the camera cannot be opened ({error.detail})"
            return Problem(cause, "check the cable; `edge-run doctor` lists cameras")
        return Problem(f"the camera stopped ({error.detail})", "check the cable")


def parse(text: str) -> DeviceSource | None:
    if match := re.fullmatch(r"camera(\d{0,3})", text):
        return DeviceSource(index=int(match[1] or 0))
    return DeviceSource(path=text) if re.fullmatch(r"/dev/video\d+", text) else None
