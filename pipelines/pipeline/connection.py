"""One attempt at one source: a GStreamer pipeline built by code, from the source element to a copied picture.

::

    filesrc ! decodebin  [probe]  (download !) videoconvert ! videoscale ! videoflip ! RGB ! appsink

The probe sees every decoded picture and lets through only those the listener wants, so that the others cost
neither conversion nor scaling. Scaling keeps the aspect (black borders). It comes after the conversion:
borders and edges then fall on the same pixels as in training, and with antialiasing the other order is no
cheaper. There is no queue behind the probe: a wanted picture reaches the listener before the next one.

A lost source is answered with a new Connection, never by restarting this one: elements keep state that a
way through NULL does not clear. The front of the pipeline is made in :mod:`pipelines.sources.elements`, the
middle in
:mod:`pipelines.pipeline.decoding.decodebin`, the end in :mod:`pipelines.pipeline.preprocessing`; the bus is
read in :mod:`pipelines.pipeline.bus`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime import redaction as secrets
from edge_runtime.video.framing import Framing, Polygon
from pipelines.gst import hush, load
from pipelines.pipeline import bus
from pipelines.pipeline.decoding import decoders
from pipelines.pipeline.decoding.decodebin import Decoding, dimensions
from pipelines.pipeline.frames import to_array
from pipelines.pipeline.listener import Listener
from pipelines.pipeline.preprocessing import add_tail, link
from pipelines.pipeline.progress import Progress
from pipelines.sources.elements import ConnectionOptions, add_head
from pipelines.sources.errors import NO_VIDEO, Problem
from pipelines.sources.registry import CsiSource, HttpSource, ImagesSource, Source, TestSource

_NS = 1_000_000_000
_START_TIMEOUT_S = 1.0
_STOP_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class EndOfStream:
    """The source says it is over."""


class Connection:
    """See the module's text. Use: ``start()``, ``poll()`` until it returns something, ``stop()``."""

    def __init__(
        self,
        source: Source,
        size: tuple[int, int],
        options: ConnectionOptions,
        listener: Listener,
        *,
        framing: Framing | None = None,
        fps: float = 1.0,
    ) -> None:
        """Build the elements. ``size``: (width, height). Raises SourceError when one is missing."""
        self._modules = load()
        if secrets.known():
            hush()
        self._source = source
        self._options = options
        self._listener = listener
        self._pipeline = self._modules.Gst.Pipeline.new(None)
        self._pipeline.use_clock(self._modules.Gst.SystemClock.obtain())
        self._bus = self._pipeline.get_bus()
        self._handlers: list[tuple[Any, int]] = []
        self._starter = threading.Thread(target=self._play, name="camera-start", daemon=True)
        self._refused = False
        self._stopped = False
        self._ticket: Any = None
        self._held: Any = None
        """The picture on screen of a recorded video, as decoded."""
        self._decoding: Decoding | None = None
        self._segment: Any = None
        self._probed_pad: Any = None
        self._downloader: Any = None
        self._probes: list[int] = []
        self._problem: Problem | None = None
        self._certain = False
        self.progress = Progress(live=source.live, stamped_at_end=isinstance(source, ImagesSource))
        self.duration_s: float | None = None
        """What a file's header, or a playlist that has an end, says."""
        # A playlist's segments come in bursts; their own times set the pace.
        self.segmented = isinstance(source, HttpSource) and source.playlist
        paced = self.segmented and source.live
        tail = add_tail(self._pipeline, size, framing or Framing(), paced=paced)
        self._tail_head, self._masking = tail.head, tail.masking
        self._connect(tail.sink, "new-sample", self._on_sample)
        decodebin = None
        if not isinstance(source, (TestSource, CsiSource, ImagesSource)):
            self._decoding = Decoding(
                options.decoder,
                live=source.live,
                playlists=self.segmented,
                connect=self._connect,
                on_video=self._attach,
                on_video_gone=self._detach,
                on_no_video=lambda: self._fail(NO_VIDEO),
            )
            decodebin = self._decoding.element
            self._pipeline.add(decodebin)
        raw = add_head(
            self._pipeline,
            source,
            options,
            fps,
            decodebin,
            self._connect,
            on_skipped=listener.skipped,
            fail=self._fail_for_sure,
        )
        if raw is not None:
            self._attach(raw)

    @property
    def decoder(self) -> str:
        """The decoder element in use, ``none`` for raw video; empty until it is known."""
        if isinstance(self._source, ImagesSource):
            return "Pillow"
        return self._decoding.decoder if self._decoding is not None else "none"

    @property
    def decoding(self) -> Decoding | None:
        """None for sources of raw video."""
        return self._decoding

    @property
    def other_streams(self) -> int:
        """Streams beside the video."""
        return self._decoding.other_streams if self._decoding is not None else 0

    def _connect(self, element: Any, signal: str, callback: Callable[..., Any]) -> None:
        self._handlers.append((element, element.connect(signal, callback)))

    def _attach(self, pad: Any) -> None:
        """Join the decoded ``pad`` to the tail and look at everything that passes."""
        kinds = self._modules.Gst.PadProbeType
        self._probes = [
            pad.add_probe(kinds.BUFFER, self._on_buffer),
            pad.add_probe(kinds.EVENT_DOWNSTREAM, self._on_event),
        ]
        self._probed_pad = pad
        head = self._tail_head
        caps = pad.get_current_caps()
        if caps is not None and (downloader := decoders.downloader_for(caps)) is not None:
            self._pipeline.add(downloader)
            link(downloader, head)
            downloader.sync_state_with_parent()
            head = self._downloader = downloader
        # Not pad.link: with gst-python's overrides it raises, and that would end in GStreamer's thread.
        result = pad.link_full(head.get_static_pad("sink"), self._modules.Gst.PadLinkCheck.DEFAULT)
        if result != self._modules.Gst.PadLinkReturn.OK:
            self._fail(
                Problem(f"the decoded video cannot be used ({result.value_nick})", "see `edge-run doctor`")
            )

    def _detach(self, pad: Any) -> None:
        """The video goes on with another pad: part this one from the tail."""
        if self._stopped:
            return
        for probe in self._probes:
            pad.remove_probe(probe)
        self._probes, self._probed_pad, self._segment = [], None, None
        if (peer := pad.get_peer()) is not None:
            pad.unlink(peer)
        if (downloader := self._downloader) is not None:
            self._downloader = None
            downloader.set_state(self._modules.Gst.State.NULL)
            self._pipeline.remove(downloader)

    # ------------------------------------------------------------------ GStreamer's threads

    def _on_event(self, pad: Any, info: Any) -> Any:
        types, event = self._modules.Gst.EventType, info.get_event()
        try:
            if event.type == types.SEGMENT:
                self._segment = event.parse_segment()
            elif event.type == types.CAPS:
                self._held = None  # the tail is told of another kind of picture now
            elif event.type == types.EOS and self._held is not None:
                self.duration_s = self._query_duration()
                self._show_again(pad, self._listener.rest())
        except Exception as error:
            self._fail(_unexpected(error))
        return self._modules.Gst.PadProbeReturn.OK

    def _show_again(self, pad: Any, ticket: Any | None) -> None:
        """Send the picture on screen through the tail, under ``ticket``."""
        if ticket is not None and not self._stopped:
            self._ticket = ticket
            pad.get_peer().chain(self._held)

    def _on_buffer(self, pad: Any, info: Any) -> Any:
        answers = self._modules.Gst.PadProbeReturn
        try:
            wanted = not self._stopped and self._look_at(pad, info.get_buffer())
        except Exception as error:
            self._fail(_unexpected(error))
            wanted = False
        return answers.OK if wanted else answers.DROP

    def _look_at(self, pad: Any, buffer: Any) -> bool:
        """Bookkeeping for one decoded picture; True when it is wanted."""
        Gst = self._modules.Gst
        now = time.monotonic()
        duration_ns = buffer.duration if buffer.duration != Gst.CLOCK_TIME_NONE else None
        corrupt = buffer.has_flags(Gst.BufferFlags.CORRUPTED)
        raw_ns = self.progress.note(self._time_stamp(pad, buffer), duration_ns, corrupt)
        if self.progress.decoded == 1:
            self._listener.first_picture(self._describe(pad))
        captured_at = now
        if self._source.live:
            stamped = (self._pipeline.get_base_time() + raw_ns) / _NS
            if now - 10.0 < stamped < now:
                captured_at = stamped
        else:
            if self._held is not None:
                self._show_again(pad, self._listener.fill(raw_ns))
            self._held = buffer
        self._ticket = self._listener.want(raw_ns, captured_at)
        return self._ticket is not None

    def _time_stamp(self, pad: Any, buffer: Any) -> int | None:
        """ns: stream time for files, running time for live sources; None when there is none."""
        Gst = self._modules.Gst
        if self._segment is None and (event := pad.get_sticky_event(Gst.EventType.SEGMENT, 0)) is not None:
            self._segment = event.parse_segment()
        if buffer.pts == Gst.CLOCK_TIME_NONE or self._segment is None:
            return None
        convert = self._segment.to_running_time if self._source.live else self._segment.to_stream_time
        placed = convert(Gst.Format.TIME, buffer.pts)
        return int(placed) if placed != Gst.CLOCK_TIME_NONE else None

    def _describe(self, pad: Any) -> str:
        """``h264 640x360, decoder avdec_h264``, or ``raw 640x480``"""
        if isinstance(self._source, ImagesSource):
            return f"{dimensions(pad)}, decoder {self.decoder}"
        return self._decoding.describe(pad) if self._decoding is not None else f"raw {dimensions(pad)}"

    def _on_sample(self, sink: Any) -> Any:
        FlowReturn = self._modules.Gst.FlowReturn
        try:
            sample = sink.emit("pull-sample")
            ticket, self._ticket = self._ticket, None
            if sample is None or ticket is None or self._stopped:
                return FlowReturn.OK
            return FlowReturn.OK if self._listener.picture(ticket, to_array(sample)) else FlowReturn.EOS
        except Exception as error:
            self._fail(_unexpected(error))
            return FlowReturn.ERROR

    def _fail(self, problem: Problem) -> None:
        """Remember the first problem found outside the bus and wake :meth:`poll`."""
        if self._problem is None:
            self._problem = problem
        Gst = self._modules.Gst
        self._bus.post(Gst.Message.new_application(self._pipeline, Gst.Structure.new_empty("problem")))

    def _fail_for_sure(self, problem: Problem) -> None:
        """The same, with a problem that tells more than what is on the bus."""
        self._certain = self._problem is None
        self._fail(problem)

    # ------------------------------------------------------------------ the supervising thread

    def start(self) -> None:
        """Set the pipeline going; what goes wrong comes out of :meth:`poll`.

        rtspsrc may hold the change of state for as long as a server is silent: it must not hold the watchdog.
        """
        self._starter.start()
        self._starter.join(_START_TIMEOUT_S)
        if self._refused:
            self._problem = (
                self._problem or self._drain() or Problem("cannot be opened", "see `edge-run doctor`")
            )

    def _play(self) -> None:
        Gst = self._modules.Gst
        self._refused = self._pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE

    @property
    def exposed(self) -> bool:
        """True once a decoder was found and its output is joined to the rest."""
        return self._probed_pad is not None

    @property
    def _may_end(self) -> bool:
        return not self._source.live or isinstance(self._source, HttpSource)

    def standing_still(self) -> bool:
        """True when nothing reads the source any more.

        When a demuxer fails while decodebin is still adding it, decodebin (1.22) swallows the error and
        nothing follows, neither error nor end. Then the demuxer's reading task is paused; so are all others.
        """
        Gst = self._modules.Gst
        elements = self._pipeline.iterate_recurse()
        while True:
            result, element = elements.next()
            if result == Gst.IteratorResult.RESYNC:
                return False
            if result != Gst.IteratorResult.OK:
                return True
            if element.get_factory() is not None and element.get_factory().get_name() == "multiqueue":
                continue
            if any(pad.get_task_state() == Gst.TaskState.STARTED for pad in element.pads):
                return False

    def wake(self) -> None:
        """Make a waiting :meth:`poll` return at once (any thread)."""
        Gst = self._modules.Gst
        self._bus.post(Gst.Message.new_application(self._pipeline, Gst.Structure.new_empty("wake")))

    def set_masks(self, masks: tuple[Polygon, ...]) -> None:
        """Black out these polygons from the next picture on (any thread)."""
        self._masking.set_masks(masks)

    def poll(self, timeout_s: float) -> Problem | EndOfStream | None:
        """Wait for news. A Problem or EndOfStream comes once and is final."""
        Gst = self._modules.Gst
        if self._problem is not None:
            return self._known()
        types = Gst.MessageType
        kinds = types.ERROR | types.EOS | types.ELEMENT | types.APPLICATION
        message = self._bus.timed_pop_filtered(int(timeout_s * Gst.SECOND), kinds)
        if self.duration_s is None and self.progress.decoded and self._may_end:
            self.duration_s = self._query_duration()
        if message is None:
            return None
        if message.type == types.EOS:
            return self._problem or EndOfStream()
        found = self._read(message)
        return self._known() if self._certain else found or self._known()

    def _known(self) -> Problem | None:
        """What was found outside the bus, or what the bus says about it."""
        if self._problem is None or self._certain:
            return self._problem
        return self._drain() or self._problem

    def _drain(self) -> Problem | None:
        """The most telling problem among the messages waiting on the bus."""
        found = None
        while (message := self._bus.pop()) is not None:
            found = found or self._read(message)
        return found

    def _read(self, message: Any) -> Problem | None:
        if self.other_streams and not self.exposed and bus.nothing_linked(message):
            return NO_VIDEO
        return bus.read(message, self._source, self._options.decoder, delivered=bool(self.progress.decoded))

    def _query_duration(self) -> float | None:
        ok, duration = self._pipeline.query_duration(self._modules.Gst.Format.TIME)
        return duration / _NS if ok and duration > 0 else None

    def stop(self) -> bool:
        """Tear down; True when GStreamer obeyed in time. Call once, never from one of its threads."""
        self._stopped = True
        # A frozen camera or driver may hold the change of state: never let it hold the caller. Whenever it
        # lets go, what refers to this connection is cut, so that nothing of it stays.
        worker = threading.Thread(target=self._tear_down, name="camera-stop", daemon=True)
        worker.start()
        worker.join(_STOP_TIMEOUT_S)
        return not worker.is_alive()

    def _tear_down(self) -> None:
        if self._starter.ident is not None:
            self._starter.join()
        self._pipeline.set_state(self._modules.Gst.State.NULL)
        for element, handler in self._handlers:
            element.disconnect(handler)
        self._handlers.clear()
        self._held = None
        if self._probed_pad is not None:
            for probe in self._probes:
                self._probed_pad.remove_probe(probe)
        self._bus.set_flushing(True)
        if self._decoding is not None:
            self._decoding.let_go()


def _unexpected(error: Exception) -> Problem:
    return Problem(f"reading a picture failed ({type(error).__name__}: {error})", "see `edge-run doctor`")
