"""One attempt at one source: a GStreamer pipeline built by code, from the source elements to a copied frame.

::

    filesrc ! decodebin  [probe]  (download !) halving ! videoconvert ! videoscale ! videoflip ! RGB ! appsink

The probe (:mod:`pipelines.pipeline.frame_probe`) sees every decoded frame and lets through only those the
listener selects, so that the others cost neither conversion nor scaling. Scaling keeps the aspect (black
borders). It comes after the conversion: borders and edges then fall on the same pixels as in training. Only
large frames are halved before.

A lost source is answered with a new Connection, never by restarting this one: elements keep state that a
way through NULL does not clear. A source makes its own elements (:mod:`pipelines.sources.base`); decoding is
in :mod:`pipelines.pipeline.decoding.decodebin`, the end in :mod:`pipelines.pipeline.preprocessing`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_runtime import redaction
from edge_runtime.video.framing import Framing, Polygon
from pipelines.gst import chain, hush, link, load, make
from pipelines.pipeline.bus import Bus, EndOfStream
from pipelines.pipeline.decoding import decoders
from pipelines.pipeline.decoding.decodebin import Decoding
from pipelines.pipeline.end_of_file import Reading
from pipelines.pipeline.frame_probe import FrameProbe
from pipelines.pipeline.listener import Listener
from pipelines.pipeline.preprocessing import add_preprocessing
from pipelines.pipeline.progress import Progress
from pipelines.pipeline.tap import Tap
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import NO_VIDEO, Problem
from pipelines.sources.options import ConnectionOptions

if TYPE_CHECKING:
    from pipelines.pipeline.still_frames import StillFrames

_START_TIMEOUT_S = 1.0
_STOP_TIMEOUT_S = 2.0


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
        tap: Tap | None = None,
        compare: bool = False,
    ) -> None:
        """Build the elements. ``size``: (width, height). ``compare``: frames that show nothing new are not
        converted. Raises SourceError when an element is missing.
        """
        self._Gst = load().Gst
        if redaction.known():
            hush()
        self.source = source
        self._pipeline = self._Gst.Pipeline.new(None)
        self._pipeline.use_clock(self._Gst.SystemClock.obtain())
        self._handlers: list[tuple[Any, int]] = []
        self._starter = threading.Thread(target=self._play, name="camera-start", daemon=True)
        self._refused = False
        self._stopped = False
        self._downloader: Any = None
        self.progress = Progress(live=source.live, stamped_at_end=source.stamped_at_end)
        self._bus = Bus(self._pipeline, source, options.decoder, self.progress)
        self._probe = FrameProbe(self._pipeline, source, listener, self._bus, self.progress)
        preprocessing = add_preprocessing(
            self._pipeline,
            size,
            framing,
            paced=source.segmented and source.live,
            full_size=tap is not None and tap.wants_pictures,
        )
        self._first, self._masking = preprocessing.first, preprocessing.masking
        self.masked, self.converter = preprocessing.masked, preprocessing.first
        """Where frames pass at full size once they are masked, and what made them."""
        self._tap = self._probe.tap = tap
        if tap is not None:
            tap.watch_masked(preprocessing.masked, preprocessing.converter)
        self._still: StillFrames | None = None
        if compare:
            from pipelines.pipeline.still_frames import StillFrames

            entry = preprocessing.first.get_static_pad("sink")
            self._still = StillFrames(entry, framing or Framing(), self._probe.on_still)
        self._connect(preprocessing.sink, "new-sample", self._probe.on_sample)
        self.decoding = None if source.decoder else self._add_decodebin(options.decoder)
        self._bus.decoding = self._probe.decoding = self.decoding
        self._add_source(
            ElementContext(
                self._pipeline,
                options,
                fps,
                self._connect,
                on_skipped=listener.skipped,
                fail=self._bus.fail_for_certain,
            )
        )

    @property
    def decoder(self) -> str:
        """The decoder in use, ``none`` for raw video; empty until it is known."""
        return self.decoding.decoder if self.decoding is not None else self.source.decoder

    @property
    def duration_s(self) -> float | None:
        """What a file's header, or a playlist that has an end, says."""
        return self._probe.duration_s

    @property
    def reading(self) -> Reading:
        """How far the source was read."""
        return self._probe.reading()

    @property
    def exposed(self) -> bool:
        """True once a decoder was found and its output is joined to the rest."""
        return self._probe.attached

    # ------------------------------------------------------------------ building

    def _connect(self, element: Any, signal: str, callback: Callable[..., Any]) -> None:
        self._handlers.append((element, element.connect(signal, callback)))

    def _add_decodebin(self, decoder: str) -> Decoding:
        decoding = Decoding(
            decoder,
            live=self.source.live,
            playlists=self.source.segmented,
            connect=self._connect,
            on_video=self._attach,
            on_video_gone=self._detach,
            on_no_video=lambda: self._bus.fail(NO_VIDEO),
        )
        decoding.tap = self._tap
        self._pipeline.add(decoding.element)
        return decoding

    def _add_source(self, context: ElementContext) -> None:
        elements = self.source.make_elements(context)
        chain(self._pipeline, elements)
        last = elements[-1]
        output = last.get_static_pad("src")
        if self.decoding is None:
            self._attach(output)
        elif output is not None:
            link(last, self.decoding.element)
        else:
            # The caps of a pad just added may not be known yet; more than one stream of video: the first.
            sink = self.decoding.element.get_static_pad("sink")
            self._connect(last, "pad-added", lambda _element, pad: sink.is_linked() or pad.link(sink))

    def _attach(self, pad: Any) -> None:
        """Join the decoded ``pad`` to the preprocessing bin and look at everything that passes."""
        caps = pad.get_current_caps()
        downloader = decoders.downloader_for(caps) if caps is not None else None
        if downloader is None and self.source.live and self._is_raw():
            pad = self._branched(pad)
        self._probe.attach(pad)
        first = self._first
        if downloader is not None:
            self._pipeline.add(downloader)
            link(downloader, first)
            downloader.sync_state_with_parent()
            first = self._downloader = downloader
        # Not pad.link: with gst-python's overrides it raises, and that would end in GStreamer's thread.
        result = pad.link_full(first.get_static_pad("sink"), self._Gst.PadLinkCheck.DEFAULT)
        if result != self._Gst.PadLinkReturn.OK:
            cause = f"the decoded video cannot be used ({result.value_nick})"
            self._bus.fail(Problem(cause, "see `edge-run doctor`"))

    def _is_raw(self) -> bool:
        return self.decoding is None or self.decoding.decoder_element is None

    def _branched(self, pad: Any) -> Any:
        """Let the tap have raw video, too; the pad where it goes on."""
        branch = self._tap.add_branch(self._pipeline) if self._tap is not None else None
        if branch is None:
            return pad
        tee = make("tee", allow_not_linked=True)
        self._pipeline.add(tee)
        link(tee, branch)
        onwards = tee.request_pad_simple("src_%u")
        pad.link_full(tee.get_static_pad("sink"), self._Gst.PadLinkCheck.DEFAULT)
        tee.sync_state_with_parent()
        return onwards

    def _detach(self, pad: Any) -> None:
        """The video goes on with another pad: part this one from the preprocessing bin."""
        if self._stopped:
            return
        self._probe.detach()
        if (peer := pad.get_peer()) is not None:
            pad.unlink(peer)
        if (downloader := self._downloader) is not None:
            self._downloader = None
            downloader.set_state(self._Gst.State.NULL)
            self._pipeline.remove(downloader)

    # ------------------------------------------------------------------ the supervising thread

    def start(self) -> None:
        """Set the pipeline going; what goes wrong comes out of :meth:`poll`.

        rtspsrc may hold the change of state for as long as a server is silent: it must not hold the watchdog.
        """
        self._starter.start()
        self._starter.join(_START_TIMEOUT_S)
        if self._refused:
            self._bus.refused()

    def _play(self) -> None:
        self._refused = (
            self._pipeline.set_state(self._Gst.State.PLAYING) == self._Gst.StateChangeReturn.FAILURE
        )

    def standing_still(self) -> bool:
        """True when nothing reads the source any more.

        When a demuxer fails while decodebin is still adding it, decodebin (1.22) swallows the error and
        nothing follows, neither error nor end. Then the demuxer's reading task is paused; so are all others.
        """
        Gst = self._Gst
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
        self._bus.wake()

    def set_masks(self, masks: tuple[Polygon, ...]) -> None:
        """Black out these polygons from the next frame on (any thread)."""
        self._masking.set_masks(masks)
        if self._still is not None:
            self._still.set_masks(masks)

    def poll(self, timeout_s: float) -> Problem | EndOfStream | None:
        """Wait for news. A Problem or EndOfStream comes once and is final."""
        news = self._bus.poll(timeout_s)
        if self.duration_s is None and self.progress.decoded and self.source.has_duration:
            self._probe.query_duration()
        return news

    def stop(self) -> bool:
        """Tear down; True when GStreamer obeyed in time. Call once, never from one of its threads."""
        self._stopped = True
        self._probe.stop()
        # A frozen camera or driver may hold the change of state: never let it hold the caller. Whenever it
        # lets go, what refers to this connection is cut, so that nothing of it stays.
        worker = threading.Thread(target=self._tear_down, name="camera-stop", daemon=True)
        worker.start()
        worker.join(_STOP_TIMEOUT_S)
        return not worker.is_alive()

    def _tear_down(self) -> None:
        if self._starter.ident is not None:
            self._starter.join()
        self._pipeline.set_state(self._Gst.State.NULL)
        for element, handler in self._handlers:
            element.disconnect(handler)
        self._handlers.clear()
        self._probe.release()
        if self._still is not None:
            self._still.release()
        self._bus.close()
        if self.decoding is not None:
            self.decoding.let_go()
