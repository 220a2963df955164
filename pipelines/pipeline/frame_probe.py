"""Look at every decoded frame of a connection, and let only those pass that its listener selects.

Everything here runs on GStreamer's threads. There is no queue behind the probe: a selected frame reaches the
listener before the next one is looked at.
"""

from __future__ import annotations

import time
from typing import Any

from pipelines.gst import load
from pipelines.pipeline import end_of_file
from pipelines.pipeline.bus import Bus
from pipelines.pipeline.decoding.decodebin import Decoding, dimensions
from pipelines.pipeline.frames import to_array
from pipelines.pipeline.listener import Listener
from pipelines.pipeline.progress import LONGEST_STILL_NS, Progress
from pipelines.pipeline.tap import Tap
from pipelines.sources.base import Source
from pipelines.sources.errors import Problem

_NS = 1_000_000_000
_OLDEST_S = 10.0
"""A live frame whose stamp is older counts as captured when it was decoded."""


class FrameProbe:
    """Holds the frame on screen of a recorded video, as it may be needed once more."""

    def __init__(
        self, pipeline: Any, source: Source, listener: Listener, bus: Bus, progress: Progress
    ) -> None:
        self._Gst = load().Gst
        self._pipeline = pipeline
        self._source = source
        self._listener = listener
        self._bus = bus
        self._progress = progress
        self._ticket: Any = None
        self._held: Any = None
        """The frame on screen of a recorded video, as decoded."""
        self._held_ns = 0
        self._held_stamp: int | None = None
        """The stamp that its source gave it."""
        self.tap: Tap | None = None
        self._segment: Any = None
        self._pad: Any = None
        self._probes: list[int] = []
        self._stopped = False
        self.decoding: Decoding | None = None
        """None for a source that gives raw video."""
        self.duration_s: float | None = None
        """What a file's header, or a playlist that has an end, says."""

    @property
    def attached(self) -> bool:
        return self._pad is not None

    def attach(self, pad: Any) -> None:
        """Look at what passes the ``src`` pad of decoded video."""
        kinds = self._Gst.PadProbeType
        self._probes = [
            pad.add_probe(kinds.BUFFER, self._on_buffer),
            pad.add_probe(kinds.EVENT_DOWNSTREAM, self._on_event),
        ]
        self._pad = pad

    def detach(self) -> None:
        """The video goes on with another pad, or it is over."""
        for probe in self._probes:
            self._pad.remove_probe(probe)
        self._probes, self._pad, self._segment = [], None, None

    def on_still(self) -> None:
        """Say that the selected frame shows nothing new; it does not reach the appsink."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None and not self._stopped:
            self._listener.frame(ticket, None)

    def stop(self) -> None:
        """From now on no frame passes (any thread)."""
        self._stopped = True

    def release(self) -> None:
        """Once the pipeline is down."""
        self._held = None
        self.detach()

    def reading(self) -> end_of_file.Reading:
        """How far the source was read."""
        return end_of_file.Reading(self._source, self._progress, self.decoding, self.duration_s)

    def query_duration(self) -> None:
        ok, duration = self._pipeline.query_duration(self._Gst.Format.TIME)
        self.duration_s = duration / _NS if ok and duration > 0 else None

    def on_sample(self, sink: Any) -> Any:
        """Hand a selected frame over; connected to the appsink's ``new-sample``."""
        FlowReturn = self._Gst.FlowReturn
        try:
            sample = sink.emit("pull-sample")
            ticket, self._ticket = self._ticket, None
            if sample is None or ticket is None or self._stopped:
                return FlowReturn.OK
            return FlowReturn.OK if self._listener.frame(ticket, to_array(sample)) else FlowReturn.EOS
        except Exception as error:
            self._bus.fail(_unexpected(error))
            return FlowReturn.ERROR

    def _on_event(self, pad: Any, info: Any) -> Any:
        types, event = self._Gst.EventType, info.get_event()
        try:
            if event.type == types.SEGMENT:
                self._segment = event.parse_segment()
            elif event.type == types.CAPS:
                self._held = None  # what follows expects another kind of frame now
            elif event.type == types.EOS and self._held is not None:
                self.query_duration()
                last_s = self._progress.last_ns / _NS
                end_s = end_of_file.find(self.reading()).end_s
                self._show_again(pad, self._listener.select_last(last_s, end_s))
        except Exception as error:
            self._bus.fail(_unexpected(error))
        return self._Gst.PadProbeReturn.OK

    def _on_buffer(self, pad: Any, info: Any) -> Any:
        answers = self._Gst.PadProbeReturn
        try:
            selected = not self._stopped and self._look_at(pad, info.get_buffer())
        except Exception as error:
            self._bus.fail(_unexpected(error))
            selected = False
        return answers.OK if selected else answers.DROP

    def _show_again(self, pad: Any, ticket: Any | None) -> None:
        """Send the frame on screen through the preprocessing bin once more."""
        if ticket is not None and not self._stopped:
            self._ticket = ticket
            if self.tap is not None:
                self.tap.selected(self._held_stamp)
            pad.get_peer().chain(self._held)

    def _look_at(self, pad: Any, buffer: Any) -> bool:
        """Bookkeeping for one decoded frame; True when it is selected."""
        Gst = self._Gst
        now = time.monotonic()
        duration_ns = buffer.duration if buffer.duration != Gst.CLOCK_TIME_NONE else None
        corrupt = buffer.has_flags(Gst.BufferFlags.CORRUPTED)
        stamp = self._time_stamp(pad, buffer)
        raw_ns = self._progress.note(stamp, duration_ns, corrupt)
        if self._progress.decoded == 1:
            self._listener.first_frame(self._describe(pad))
        captured_at = now
        if self._source.live:
            stamped = (self._pipeline.get_base_time() + raw_ns) / _NS
            if now - _OLDEST_S < stamped < now:
                captured_at = stamped
        else:
            if self._held is not None and self._stays_until(raw_ns):
                self._show_again(pad, self._listener.select_again(self._held_ns / _NS, raw_ns / _NS))
            self._held, self._held_ns, self._held_stamp = buffer, raw_ns, stamp
        self._ticket = self._listener.select(raw_ns, captured_at)
        if self.tap is not None and self._ticket is not None:
            self.tap.selected(stamp)
        return self._ticket is not None

    def _stays_until(self, until_ns: int) -> bool:
        """True when the frame on screen stays there until the next one; else there is a gap."""
        return not self._source.stamped_at_end and until_ns - self._held_ns <= LONGEST_STILL_NS

    def _time_stamp(self, pad: Any, buffer: Any) -> int | None:
        """ns: stream time for files, running time for live sources; None when there is none."""
        Gst = self._Gst
        if self._segment is None and (event := pad.get_sticky_event(Gst.EventType.SEGMENT, 0)) is not None:
            self._segment = event.parse_segment()
        if buffer.pts == Gst.CLOCK_TIME_NONE or self._segment is None:
            return None
        convert = self._segment.to_running_time if self._source.live else self._segment.to_stream_time
        placed = convert(Gst.Format.TIME, buffer.pts)
        return int(placed) if placed != Gst.CLOCK_TIME_NONE else None

    def _describe(self, pad: Any) -> str:
        """``h264 640x360, decoder avdec_h264``, or ``raw 640x480``."""
        if self.decoding is not None:
            return self.decoding.describe(pad)
        decoder = self._source.decoder
        return f"raw {dimensions(pad)}" if decoder == "none" else f"{dimensions(pad)}, decoder {decoder}"


def _unexpected(error: Exception) -> Problem:
    return Problem(f"reading a frame failed ({type(error).__name__}: {error})", "see `edge-run doctor`")
