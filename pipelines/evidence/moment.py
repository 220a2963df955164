"""What evidence of one frame is made from: the picture, and the encoded video around it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.video.framing import Polygon
from pipelines.evidence import mp4
from pipelines.evidence.ring import Recording, Ring
from pipelines.gst import load
from pipelines.pipeline.frames import layout

_QUALITY = 85
_TURNS = {
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A BGRx frame of full size with the privacy masks applied. ``rotate``: degrees clockwise."""

    buffer: Any
    caps: Any
    rotate: int

    def jpeg(self) -> bytes:
        """Encode it."""
        modules = load()
        info = modules.GstVideo.VideoInfo.new_from_caps(self.caps)
        stride, offset = layout(self.buffer, info)
        data = self.buffer.extract_dup(0, self.buffer.get_size())
        rows = np.frombuffer(data, np.uint8)[offset:]
        shape, strides = (info.height, info.width, 4), (stride, 4, 1)
        pixels = np.lib.stride_tricks.as_strided(rows, shape, strides, writeable=False)
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 2::-1]))
        if self.rotate:
            image = image.transpose(_TURNS[self.rotate])
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()


class Clip:
    """A clip that is being recorded, and can be written once it is complete."""

    def __init__(self, recording: Recording, masks: Callable[[], tuple[Polygon, ...]], rotate: int) -> None:
        self._recording = recording
        self._masks = masks
        self._rotate = rotate
        self.at_s = recording.at_s
        """Where in the clip the frame lies that it is about, in seconds."""

    @property
    def masks(self) -> tuple[Polygon, ...]:
        """All masks that were in force during the clip, and those of now."""
        return tuple(sorted({*self._recording.masks, *self._masks()}))

    def write(self, path: Path) -> None:
        """Write an MP4. Raises OSError or SinkError."""
        recording = self._recording
        mp4.write(path, recording.caps, recording.units(), self.masks, self._rotate)


@dataclass(frozen=True, eq=False)
class Moment:
    """See :class:`edge_runtime.events.evidence.Moment`."""

    picture: Picture | None
    ring: Ring | None
    stamp_ns: int
    masks: Callable[[], tuple[Polygon, ...]]
    rotate: int

    @property
    def has_picture(self) -> bool:
        return self.picture is not None

    @property
    def masked(self) -> bool:
        """True when a privacy mask is in force."""
        return bool(self.masks())

    def jpeg(self) -> bytes:
        """The frame as JPEG, masks applied."""
        assert self.picture is not None
        return self.picture.jpeg()

    def clip_problem(self) -> str:
        """Why there can be no clip of it, in words; empty when there can."""
        if self.ring is None:
            return "there is no encoded video of this moment" if mp4.encoder() else mp4.NO_ENCODER
        if mp4.needs_encoding(self.ring.caps, self.masks()) and not mp4.encoder():
            return mp4.NO_ENCODER
        return ""

    def record(self, pre_s: float, post_s: float, on_done: Callable[[Clip], None]) -> Clip | None:
        """Start a clip of the seconds around the frame; None when there is no video of it any more.

        ``on_done(clip)`` is called once it can be written, on any thread, maybe within this call.
        """
        if self.ring is None:
            return None

        def made(recording: Recording) -> Clip:
            return Clip(recording, self.masks, self.rotate)

        recording = self.ring.record(self.stamp_ns, pre_s, post_s, lambda done: on_done(made(done)))
        return made(recording) if recording is not None else None
