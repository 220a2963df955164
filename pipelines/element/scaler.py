"""Scales one raw video buffer at a time to a small RGB frame, with the elements a camera's frames pass.

::

    appsrc ! videoconvert ! videoscale ! videoflip ! RGB ! appsink

Used where buffers are at hand but no camera: inside the `streampro` element, for the few buffers a timestep
takes. The same elements give the same pixels, so the same decisions. Strides are the buffer's own (its video
meta), whatever its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.errors import SourceError
from pipelines.gst import link, load, make
from pipelines.pipeline.frames import to_array
from pipelines.pipeline.preprocessing import add_preprocessing
from pipelines.sources.errors import first_line


class FrameScaler:
    """A small pipeline that is fed by hand. Not thread-safe: one thread converts."""

    def __init__(self, size: tuple[int, int]) -> None:
        """``size``: (width, height) of the frames. Raises SourceError when an element is missing."""
        self._Gst = load().Gst
        self._pipeline = self._Gst.Pipeline.new(None)
        self._source = make("appsrc", format=self._Gst.Format.TIME, max_buffers=1)
        self._pipeline.add(self._source)
        first, self._sink, *_ = add_preprocessing(self._pipeline, size)
        self._sink.set_property("emit-signals", False)
        link(self._source, first)
        self._pipeline.set_state(self._Gst.State.PLAYING)

    def convert(self, buffer: Any, caps: Any, timeout_s: float = 5.0) -> np.ndarray:
        """``uint8 [height, width, 3]`` letterboxed RGB of a raw video ``buffer`` described by ``caps``.

        The buffer is let go before this returns. Raises SourceError when it cannot be converted.
        """
        self._source.set_property("caps", caps)
        self._source.emit("push-buffer", buffer)
        sample = self._sink.emit("try-pull-sample", int(timeout_s * self._Gst.SECOND))
        if sample is None:
            raise SourceError(f"{caps.to_string()}: the frame cannot be scaled ({self._reason()})")
        return to_array(sample)

    def _reason(self) -> str:
        message = self._pipeline.get_bus().pop_filtered(self._Gst.MessageType.ERROR)
        return "it takes too long" if message is None else first_line(message.parse_error()[0].message)

    def close(self) -> None:
        """Release everything."""
        self._pipeline.set_state(self._Gst.State.NULL)
