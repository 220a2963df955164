"""Take encoded video and full-size pictures out of a connection, for evidence.

Coded frames are copied where they enter the decoder: nothing is decoded or encoded twice, and hardware
decoders and network buffers are not held up. Raw video has no such place: a branch of its own makes JPEGs.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from edge_runtime.errors import SourceError
from edge_runtime.video.framing import Framing, Polygon
from pipelines.evidence import mp4
from pipelines.evidence.moment import Moment, Picture
from pipelines.evidence.ring import Footage, Ring, Unit
from pipelines.gst import caps_filter, chain, load, make

_log = logging.getLogger(__name__)

RAW_FPS = 10
"""Frames per second kept of a source that gives raw video."""
_PARAMETERS = ("h264parse", "h265parse")


class _Stream:
    """What enters one decoder."""

    def __init__(self, footage: Footage, masks: tuple[Polygon, ...], live: bool) -> None:
        self._Gst = load().Gst
        self._footage = footage
        self._live = live
        self._segment: Any = None
        self._caps = ""
        self.masks = masks
        self.rings: tuple[Ring, ...] = ()
        """The newest last. The one before may still be asked for the frames inside the decoder."""

    def watch(self, pad: Any) -> None:
        kinds = self._Gst.PadProbeType
        pad.add_probe(kinds.BUFFER, self._on_buffer)
        pad.add_probe(kinds.EVENT_DOWNSTREAM, self._on_event)

    def end(self) -> None:
        for ring in self.rings:
            ring.end()

    def _on_event(self, _pad: Any, info: Any) -> Any:
        event = info.get_event()
        if event.type == self._Gst.EventType.SEGMENT:
            self._segment = event.parse_segment()
        elif event.type == self._Gst.EventType.CAPS:
            self._caps = event.parse_caps().to_string()
        elif event.type == self._Gst.EventType.EOS:
            self.end()
        return self._Gst.PadProbeReturn.OK

    def _on_buffer(self, _pad: Any, info: Any) -> Any:
        try:
            self._keep(info.get_buffer())
        except Exception as error:  # evidence must never stop the watching
            _log.debug("a coded frame was not kept: %s: %s", type(error).__name__, error)
        return self._Gst.PadProbeReturn.OK

    def _keep(self, buffer: Any) -> None:
        none, pts, dts = self._Gst.CLOCK_TIME_NONE, buffer.pts, buffer.dts
        stamp = dts if pts == none else pts
        if stamp == none or self._segment is None or not self._caps:
            return
        convert = self._segment.to_running_time if self._live else self._segment.to_stream_time
        shown_ns = convert(self._Gst.Format.TIME, stamp)
        if shown_ns == none:  # outside of what is shown
            return
        late_ns = 0 if dts == none else max(0, stamp - dts)
        unit = Unit(buffer.extract_dup(0, buffer.get_size()), shown_ns, shown_ns - late_ns)
        ring = self.rings[-1] if self.rings else None
        if ring is None or ring.ended or ring.caps != self._caps or not ring.follows(shown_ns):
            if ring is not None:
                ring.end()
            ring = Ring(self._caps, self._footage, self.masks)
            self.rings = (*self.rings[-1:], ring)
        ring.add(unit, key=not buffer.has_flags(self._Gst.BufferFlags.DELTA_UNIT))


class EvidenceTap:
    """The :class:`~pipelines.pipeline.tap.Tap` of one connection. ``moment()`` belongs to the frame that was
    selected last; call it on the thread that brings the frame. ``keeps_picture``: for frames that show
    nothing new after it.
    """

    def __init__(
        self, footage: Footage, framing: Framing, *, live: bool, keeps_picture: bool = False
    ) -> None:
        self._Gst = load().Gst
        self._footage = footage
        self._live = live
        self._lock = threading.Lock()
        self._masks = framing.masks
        self._rotate = framing.rotate
        self._streams: dict[Any, _Stream] = {}
        self._used: _Stream | None = None
        self._stamp_ns: int | None = None
        self._buffer: Any = None
        self._caps: Any = None
        self._keeps_picture = keeps_picture
        self._picture: Picture | None = None

    @property
    def wants_pictures(self) -> bool:
        return self._footage.picture

    def watch_parser(self, element: Any) -> None:
        if element.get_factory().get_name() in _PARAMETERS:
            # Before every key frame, also where the source sends them once: a clip may start at any.
            element.set_property("config-interval", -1)

    def watch_decoder(self, element: Any) -> None:
        pad = element.get_static_pad("sink")
        if self._footage.clip and pad is not None:
            self._add(element, pad)

    def add_branch(self, pipeline: Any) -> Any | None:
        if not self._footage.clip or not mp4.encoder():
            return None
        try:
            branch = _jpeg_branch()
        except SourceError as error:
            _log.warning("no clips are kept: %s", error)
            return None
        chain(pipeline, branch)
        for element in branch:
            element.sync_state_with_parent()
        self._used = self._add(None, branch[-1].get_static_pad("sink"))
        return branch[0]

    def use_decoder(self, element: Any) -> None:
        self._used = self._streams.get(element)

    def watch_masked(self, pad: Any, converter: Any) -> None:
        if not self._footage.picture:
            return

        def on_buffer(pad: Any, info: Any) -> Any:
            buffer = info.get_buffer()
            # Converted frames are ours alone; what passes as it came may belong to a camera with few buffers.
            self._buffer = buffer.copy_deep() if converter.is_passthrough() else buffer
            self._caps = pad.get_current_caps()
            return self._Gst.PadProbeReturn.OK

        pad.add_probe(self._Gst.PadProbeType.BUFFER, on_buffer)

    def selected(self, stamp_ns: int | None) -> None:
        self._stamp_ns, self._buffer = stamp_ns, None

    def moment(self, *, still: bool = False) -> Moment:
        """What evidence of the frame selected last is made from. ``still``: it shows nothing new."""
        stamp_ns, stream = self._stamp_ns, self._used
        buffer, self._buffer = self._buffer, None
        picture = Picture(buffer, self._caps, self._rotate) if buffer is not None else None
        if still:
            picture = self._picture
        elif self._keeps_picture:
            self._picture = picture
        ring = None
        if stream is not None and stamp_ns is not None:
            ring = next((ring for ring in reversed(stream.rings) if ring.holds(stamp_ns)), None)
        moment = Moment(picture, ring, stamp_ns or 0, lambda: self._masks, self._rotate)
        if ring is not None:
            ring.need(moment, moment.stamp_ns)
        return moment

    def set_masks(self, masks: tuple[Polygon, ...]) -> None:
        """Other masks are in force from now on (any thread)."""
        with self._lock:
            self._masks, self._picture = masks, None
            for stream in self._streams.values():
                stream.masks = masks
                for ring in stream.rings:
                    ring.set_masks(masks)

    def end(self) -> None:
        """The connection is over: clips end with what there is. Moments hold what they may still need."""
        with self._lock:
            streams = list(self._streams.values())
            self._streams.clear()
            self._used = self._buffer = self._picture = None
        for stream in streams:
            stream.end()

    def _add(self, key: Any, pad: Any) -> _Stream:
        with self._lock:
            stream = self._streams[key] = _Stream(self._footage, self._masks, self._live)
        stream.watch(pad)
        return stream


def _jpeg_branch() -> list[Any]:
    """Clips are for people: ten frames a second of moderate size bound what this costs all the time."""
    return [
        make("queue", max_size_buffers=2, max_size_bytes=0, max_size_time=0, leaky=2),
        make("videorate", drop_only=True, max_rate=RAW_FPS),
        make("videoscale"),
        make("videoconvert"),
        caps_filter(
            "video/x-raw, format=(string)I420, width=(int)[2, 1280], height=(int)[2, 720], "
            "pixel-aspect-ratio=(fraction)1/1"
        ),
        make("jpegenc", quality=85),
        make("fakesink", sync=False, **{"async": False}),
    ]
