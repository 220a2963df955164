"""What went into the decoder: pictures that could not be decoded leave no other trace.

Also how long the coded pictures say they are. Decoders do not hand that on: they answer with the frame rate.
"""

from __future__ import annotations

from typing import Any

from .gst import load


class Coded:
    """Watches the coded pictures of one stream where they pass a pad. Times in nanoseconds of stream time."""

    def __init__(self) -> None:
        self._segment: Any = None
        self.count = 0
        self.first_pts_ns = 0
        self.last_pts_ns = 0
        """First and last stamp as the file has them, not as stream time."""
        self.last_ns = 0
        """Stamp of the last picture in the order they are shown."""
        self.end_ns = 0
        """Where the last one ends, in the order they are decoded, by the duration that the file gives it."""
        self.reordered = False
        """Pictures are decoded in another order than shown: a duration does not belong to its stamp then."""

    def watch(self, pad: Any) -> None:
        """Count what passes ``pad``."""
        kinds = load().Gst.PadProbeType
        pad.add_probe(kinds.BUFFER, self._on_buffer)
        pad.add_probe(kinds.EVENT_DOWNSTREAM, self._on_event)

    def _on_event(self, _pad: Any, info: Any) -> Any:
        Gst = load().Gst
        event = info.get_event()
        if event.type == Gst.EventType.SEGMENT:
            segment = event.parse_segment()
            self._segment = segment if segment.format == Gst.Format.TIME else None
        return Gst.PadProbeReturn.OK

    def _on_buffer(self, _pad: Any, info: Any) -> Any:
        Gst = load().Gst
        buffer = info.get_buffer()
        pts, dts, none = buffer.pts, buffer.dts, Gst.CLOCK_TIME_NONE
        stamp = pts if pts != none else dts
        if self._segment is None or stamp == none:
            return Gst.PadProbeReturn.OK
        self.first_pts_ns = min(self.first_pts_ns, stamp) if self.count else stamp
        self.last_pts_ns = max(self.last_pts_ns, stamp)
        self.count += 1
        self.reordered = self.reordered or (dts not in (none, stamp))
        shown = self._segment.to_stream_time(Gst.Format.TIME, stamp)
        if shown != none:
            self.last_ns = max(self.last_ns, shown)
        decoded = stamp if dts == none else dts
        end = self._segment.to_stream_time(Gst.Format.TIME, decoded)
        if end != none and buffer.duration != none:
            self.end_ns = max(self.end_ns, end + buffer.duration)
        return Gst.PadProbeReturn.OK
