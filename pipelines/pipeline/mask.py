"""The element that blacks out privacy masks: right behind the conversion, before anything looks.

It fails closed: a frame that cannot be masked is never passed on. What nobody may write to is copied by
GStreamer first.
"""

from __future__ import annotations

import threading
from typing import Any

import gi
import numpy as np
from PIL import Image, ImageDraw

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstBase, GstVideo  # noqa: E402

from edge_runtime.video.framing import Polygon  # noqa: E402
from pipelines.pipeline.frames import layout  # noqa: E402

_CAPS = "video/x-raw, format=(string)BGRx"


class PrivacyMask(GstBase.BaseTransform):  # type: ignore[misc]
    """In-place filter of BGRx video. Made by its constructor, not by name."""

    __gtype_name__ = "StreamProPrivacyMask"
    __gstmetadata__ = ("Privacy mask", "Filter/Effect/Video", "Blacks out polygons", "StreamPro Edge")
    __gsttemplates__ = (
        Gst.PadTemplate.new(
            "sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(_CAPS)
        ),
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(_CAPS)),
    )

    def __init__(self, masks: tuple[Polygon, ...]) -> None:
        super().__init__()
        self._lock = threading.Lock()  # between who sets masks and the streaming thread
        self._masks = masks
        self._info: Any = None
        self._hidden: np.ndarray | None = None  # [H, W] bool
        self.set_in_place(True)
        self.set_passthrough(False)  # in pass-through a frame is not copied where it has to be

    def set_masks(self, masks: tuple[Polygon, ...]) -> None:
        """Take other polygons from the next frame on, from any thread, also while playing."""
        with self._lock:
            self._masks = masks
            if self._info is not None:
                self._hidden = raster(masks, self._info.width, self._info.height)

    def do_set_caps(self, caps: Any, _out: Any) -> bool:
        try:
            with self._lock:
                self._info = GstVideo.VideoInfo.new_from_caps(caps)
                self._hidden = raster(self._masks, self._info.width, self._info.height)
            return True
        except Exception as error:
            self._report(error)
            return False

    def do_transform_ip(self, buffer: Any) -> Any:
        try:
            if not self._masks:
                return Gst.FlowReturn.OK
            stride, offset = layout(buffer, self._info)
            with buffer.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE) as view:
                flat = np.frombuffer(view.data, np.uint8)[offset:]
                shape, strides = (self._info.height, self._info.width, 4), (stride, 4, 1)
                pixels = np.lib.stride_tricks.as_strided(flat, shape, strides)
                pixels[self._hidden] = 0
                del flat, pixels  # they must not outlive the mapping
            return Gst.FlowReturn.OK
        except Exception as error:
            self._report(error)
            return Gst.FlowReturn.ERROR

    def _report(self, error: Exception) -> None:
        text = f"the privacy mask cannot be applied ({type(error).__name__}: {error})"
        made = GLib.Error.new_literal(Gst.StreamError.quark(), text, Gst.StreamError.FAILED)
        self.post_message(Gst.Message.new_error(self, made, ""))


def raster(masks: tuple[Polygon, ...], width: int, height: int) -> np.ndarray:
    """``bool [height, width]``: every pixel that a polygon touches, and two more on each side.

    The conversion of a halved frame spreads colours so far.
    """
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in masks:
        corners = [(x * width, y * height) for x, y in polygon]
        draw.polygon(corners, fill=1, outline=1)
        draw.line([*corners, corners[0]], fill=1, width=5)
    return np.asarray(image, dtype=bool)
