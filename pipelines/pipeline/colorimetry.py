"""Keep the range of a video that names no matrix.

Cameras and phones often mark H.264 and H.265 as full range and name no matrix. GStreamer then drops the
range as well and converts the frames as limited range: RGB (219, 31, 30) becomes (231, 16, 18). Here the
caps are completed, before the conversion, with the matrix that GStreamer takes for frames of that size.
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
    """``caps`` with a matrix in their colorimetry; the same object when nothing is missing."""
    modules = load()
    text = caps.to_string()
    match = _NO_MATRIX.search(text)
    info = modules.GstVideo.VideoInfo.new_from_caps(caps) if match else None
    if match is None or info is None or info.colorimetry.matrix == modules.GstVideo.VideoColorMatrix.RGB:
        return caps
    range_, transfer, primaries = match.groups()
    named = f"colorimetry=(string){range_}:{int(info.colorimetry.matrix)}:{transfer}:{primaries}"
    return modules.Gst.Caps.from_string(text.replace(match[0], named))
