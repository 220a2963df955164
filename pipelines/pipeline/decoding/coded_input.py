"""What went into the decoder: frames that could not be decoded leave no other trace.

Also how long the coded frames say they are. Decoders do not hand that on: they answer with the frame rate.
"""

from __future__ import annotations

from typing import Any

from pipelines.gst import load


class Coded:
    """Watches the coded frames of one stream where they pass a pad. Times in nanoseconds."""

    def __init__(self) -> None:
        self._Gst = load().Gst
        self._none = self._Gst.CLOCK_TIME_NONE
        self._segment: Any = None
        self._newest = self._latest_end = 0
        """Of this segment, not converted: every frame passes here."""
        self._last_ns = self._end_ns = 0
        self.count = 0
        self.first_pts_ns = 0
        self.last_pts_ns = 0
        """First and last stamp as the file has them; the other times are stream time."""
        self.reordered = False
        """Frames are decoded in another order than shown: a duration does not belong to its stamp then."""

    @property
    def last_ns(self) -> int:
        """Stamp of the last frame in the order they are shown."""
        self._settle()
        return self._last_ns

    @property
    def end_ns(self) -> int:
        """Where the last one ends in the order they are decoded, by its own duration."""
        self._settle()
        return self._end_ns

    def watch(self, pad: Any) -> None:
        """Count what passes ``pad``."""
        kinds = self._Gst.PadProbeType
        pad.add_probe(kinds.BUFFER, self._on_buffer)
        pad.add_probe(kinds.EVENT_DOWNSTREAM, self._on_event)

    def _settle(self) -> None:
        """Take over the times of the segment so far."""
        if self._segment is None:
            return
        times = [
            self._segment.to_stream_time(self._Gst.Format.TIME, t) for t in (self._newest, self._latest_end)
        ]
        last, end = (0 if time == self._none else time for time in times)
        self._last_ns, self._end_ns = max(self._last_ns, last), max(self._end_ns, end)

    def _on_event(self, _pad: Any, info: Any) -> Any:
        event = info.get_event()
        if event.type == self._Gst.EventType.SEGMENT:
            self._settle()
            self._newest = self._latest_end = 0
            segment = event.parse_segment()
            self._segment = segment if segment.format == self._Gst.Format.TIME else None
        return self._Gst.PadProbeReturn.OK

    def _on_buffer(self, _pad: Any, info: Any) -> Any:
        buffer = info.get_buffer()
        pts, dts, duration, none = buffer.pts, buffer.dts, buffer.duration, self._none
        stamp = dts if pts == none else pts
        if stamp != none and self._segment is not None:
            self.first_pts_ns = min(self.first_pts_ns, stamp) if self.count else stamp
            self.count += 1
            self._newest = max(self._newest, stamp)
            self.last_pts_ns = max(self.last_pts_ns, stamp)
            self.reordered = self.reordered or dts not in (none, stamp)
            if duration != none:
                self._latest_end = max(self._latest_end, (stamp if dts == none else dts) + duration)
        return self._Gst.PadProbeReturn.OK
