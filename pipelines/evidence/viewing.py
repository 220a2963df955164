"""Selected frames at the size of the video for people who watch, as long as somebody asks for them.

They are taken where they pass anyway: at full size, masks applied, before they are made small for the model.
While no viewer asks, a selected frame costs one comparison here.
"""

from __future__ import annotations

import time
from typing import Any

from edge_runtime.video.framing import Framing
from pipelines.evidence.moment import Picture
from pipelines.gst import load


class Viewing:
    """``want`` from any thread; ``take`` on the thread that brings the frame, once for each."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._until = 0.0
        self._picture: Picture | None = None

    def want(self, seconds: float) -> None:
        """Take pictures of the frames of the next ``seconds``."""
        self._until = time.monotonic() + seconds

    def take(self) -> Picture | None:
        """The picture of the frame that has just come; None when it was not asked for."""
        picture, self._picture = self._picture, None
        return picture

    def watch(self, pad: Any, converter: Any) -> None:
        """Frames pass ``pad`` as BGRx of full size, masks applied; ``converter`` made them."""
        Gst = load().Gst
        upright = True

        def on_event(_pad: Any, info: Any) -> Any:
            nonlocal upright
            event = info.get_event()
            if event.type == Gst.EventType.TAG:
                known, turn = event.parse_tag().get_string("image-orientation")
                upright = not known or turn == "rotate-0"  # turned behind this pad; its picture would lie
            return Gst.PadProbeReturn.OK

        def on_buffer(pad: Any, info: Any) -> Any:
            self._picture = None
            if upright and time.monotonic() < self._until:
                buffer = info.get_buffer()
                # What passes as it came may belong to a camera with few buffers.
                buffer = buffer.copy_deep() if converter.is_passthrough() else buffer
                framing = self._framing
                self._picture = Picture(buffer, pad.get_current_caps(), framing.rotate, framing.crop)
            return Gst.PadProbeReturn.OK

        pad.add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, on_event)
        pad.add_probe(Gst.PadProbeType.BUFFER, on_buffer)
