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
    """A BGRx frame of full size with the privacy masks applied. ``rotate``: degrees clockwise; ``crop``: the
    part of it that is seen.
    """

    buffer: Any
    caps: Any
    rotate: int
    crop: tuple[float, float, float, float] | None = None

    def jpeg(self, size: int | None = None) -> bytes:
        """Encode it; ``size``: the pixels of the longer side at most."""
        modules = load()
        info = modules.GstVideo.VideoInfo.new_from_caps(self.caps)
        stride, offset = layout(self.buffer, info)
        data = np.frombuffer(self.buffer.extract_dup(0, self.buffer.get_size()), np.uint8)[offset:]
        # As it is in memory, without a copy; red and blue change places once it is small.
        image = Image.frombuffer("RGBX", (info.width, info.height), data, "raw", "RGBX", stride, 1)
        if size is not None:
            image = self._smaller(image, size, info.par_n / info.par_d)
        blue, green, red, _ = image.split()
        image = Image.merge("RGB", (red, green, blue))
        if self.rotate:
            image = image.transpose(_TURNS[self.rotate])
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()

    def _smaller(self, image: Image.Image, size: int, pixel_aspect: float) -> Image.Image:
        """The part that is seen, with square pixels, not enlarged."""
        left, top, width, height = self.crop or (0.0, 0.0, 1.0, 1.0)
        left, width = left * image.width, width * image.width
        top, height = top * image.height, height * image.height
        wide, high = width * max(1.0, pixel_aspect), height * max(1.0, 1 / pixel_aspect)
        scale = min(1.0, size / max(wide, high))
        shape = (max(1, round(wide * scale)), max(1, round(high * scale)))
        box = (left, top, min(image.width, left + width), min(image.height, top + height))
        return image.resize(shape, Image.Resampling.BILINEAR, box, reducing_gap=2.0)


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
