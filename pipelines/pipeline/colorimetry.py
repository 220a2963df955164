"""Keep the colours of a video that does not name its range and matrix.

Cameras and phones often mark H.264 and H.265 as full range and name no matrix. GStreamer then drops the
range as well and converts the frames as limited range: RGB (219, 31, 30) becomes (231, 16, 18). Here the
caps are completed, before the conversion, with the matrix that GStreamer takes for frames of that size.

Where nothing is named, GStreamer takes what suits the size of a frame, and something else once the frame is
smaller: to scale it, it would convert every pixel. So what it takes for the size that comes is named.
"""

from __future__ import annotations

import re
from typing import Any

from pipelines.gst import load

_NO_MATRIX = re.compile(r"colorimetry=\(string\)(\d+):0:(\d+):(\d+)")
"""Range, matrix (0: unknown), transfer and primaries, as caps write them when they have no common name."""


def keep_range(pad: Any) -> None:
    """Complete the caps that arrive at this sink ``pad``."""
    pad.add_probe(load().Gst.PadProbeType.EVENT_DOWNSTREAM, _on_event)


def _on_event(pad: Any, info: Any) -> Any:
    Gst = load().Gst
    event = info.get_event()
    if event.type != Gst.EventType.CAPS:
        return Gst.PadProbeReturn.OK
    caps = event.parse_caps()
    completed = complete(caps)
    if completed is caps:
        return Gst.PadProbeReturn.OK
    pad.send_event(Gst.Event.new_caps(completed))  # comes by here again and passes
    return Gst.PadProbeReturn.DROP


def complete(caps: Any) -> Any:
    """``caps`` with range and matrix in their colorimetry; the same object when nothing is missing."""
    modules = load()
    text = caps.to_string()
    match = _NO_MATRIX.search(text)
    unnamed = "colorimetry=" not in text and text.startswith("video/x-raw")
    info = modules.GstVideo.VideoInfo.new_from_caps(caps) if match or unnamed else None
    if info is None or info.colorimetry.matrix == modules.GstVideo.VideoColorMatrix.RGB:
        return caps
    if match is None:
        if not (name := info.colorimetry.to_string()):
            return caps
        return modules.Gst.Caps.from_string(f"{text}, colorimetry=(string){name}")
    range_, transfer, primaries = match.groups()
    named = f"colorimetry=(string){range_}:{int(info.colorimetry.matrix)}:{transfer}:{primaries}"
    return modules.Gst.Caps.from_string(text.replace(match[0], named))
