"""Stop selected frames that show nothing new before they are converted, and say so.

The frames of the decoder are compared as they are, without what masks and crop hide
(:mod:`edge_runtime.video.stillness`). Video of more than 8 bits, and what cannot be read, counts as new.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_runtime.video.framing import Framing, Polygon
from edge_runtime.video.stillness import Plane, Stillness
from pipelines.gst import load
from pipelines.pipeline.frames import layouts, mapped
from pipelines.pipeline.mask import raster

_RASTER = (640, 480)
"""Width and height at which hidden parts are drawn."""


class StillFrames:
    """Watches the sink ``pad`` of the preprocessing bin. ``on_still`` is called in place of what follows."""

    def __init__(self, pad: Any, framing: Framing, on_still: Callable[[], None]) -> None:
        self._Gst = load().Gst
        self._crop = framing.crop
        self._on_still = on_still
        self._caps: Any = None
        self._info: Any = None
        self.set_masks(framing.masks)
        self._pad = pad
        self._probe = pad.add_probe(self._Gst.PadProbeType.BUFFER, self._on_buffer)

    def set_masks(self, masks: tuple[Polygon, ...]) -> None:
        """Other masks are in force: the next frame is new (any thread)."""
        self._stillness = Stillness(_hidden(masks, self._crop))

    def release(self) -> None:
        """Once the pipeline is down."""
        self._pad.remove_probe(self._probe)

    def _on_buffer(self, pad: Any, info: Any) -> Any:
        answers = self._Gst.PadProbeReturn
        try:
            new = self._is_new(pad, info.get_buffer())
        except Exception:  # a frame too much is decided on, never one too few
            new = True
        if new:
            return answers.OK
        self._on_still()
        return answers.DROP

    def _is_new(self, pad: Any, buffer: Any) -> bool:
        stillness = self._stillness
        caps = pad.get_current_caps()
        if self._caps is None or not caps.is_equal(self._caps):
            stillness.forget()
            self._caps, self._info = caps, load().GstVideo.VideoInfo.new_from_caps(caps)
        if not comparable(self._info):
            return True
        with mapped(buffer) as data:
            return stillness.is_new(planes(data, buffer, self._info))


def comparable(info: Any) -> bool:
    """True for formats whose components are plain bytes."""
    form, flags = info.finfo, load().GstVideo.VideoFormatFlags
    if form.flags & (flags.TILED | flags.COMPLEX | flags.PALETTE):
        return False
    count = form.n_components
    return bool(count) and all(
        depth == 8 and stride for depth, stride in zip(form.depth[:count], form.pixel_stride, strict=False)
    )


def planes(data: np.ndarray, buffer: Any, info: Any) -> list[Plane]:
    """Views [H, W] of the components of a mapped ``buffer``, without copies. Alpha is left out."""
    form = info.finfo
    strides, offsets = layouts(buffer, info)
    found = []
    for component in range(min(3, form.n_components)):
        plane = form.plane[component]
        height = _part(info.height, form.h_sub[component])
        width = _part(info.width, form.w_sub[component])
        first = offsets[plane] + form.poffset[component]
        steps = (strides[plane], form.pixel_stride[component])
        if first + steps[0] * (height - 1) + steps[1] * (width - 1) >= data.size:
            raise ValueError("the frame's memory is too short")
        found.append(np.lib.stride_tricks.as_strided(data[first:], (height, width), steps, writeable=False))
    return found


def _part(pixels: int, halvings: int) -> int:
    return -(-pixels // (1 << halvings))


def _hidden(masks: tuple[Polygon, ...], crop: tuple[float, float, float, float] | None) -> np.ndarray | None:
    """``bool [H, W]``: what masks black out and what lies outside of the crop; None when all is seen."""
    if not masks and crop is None:
        return None
    wide, high = _RASTER
    hidden = raster(masks, wide, high)
    if crop is not None:
        left, top, width, height = crop
        seen = np.zeros_like(hidden)
        rows = slice(int(top * high), int(np.ceil((top + height) * high)))
        seen[rows, int(left * wide) : int(np.ceil((left + width) * wide))] = True
        hidden = hidden | ~seen
    return hidden
