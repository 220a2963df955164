"""From coded to raw video: a decodebin with rules.

It decodes video alone, takes the decoders that :mod:`pipelines.pipeline.decoding.decoders` ranked, and never
follows a file's links into the network. decodebin, not
decodebin3, which on GStreamer 1.22 corrupts multi-slice RTSP H.264.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.gst import make, structure_of
from pipelines.pipeline.decoding import decoders
from pipelines.pipeline.decoding.coded_input import Coded
from pipelines.pipeline.tap import Tap
from pipelines.sources.errors import codec_name

_TRY, _SKIP = 0, 2
"""decodebin's answers to autoplug-select; its enumeration is private to the plugin."""


class Decoding:
    """``element`` is to be added to a pipeline and fed. Callbacks come on GStreamer's threads."""

    def __init__(
        self,
        wanted: str,
        *,
        live: bool,
        playlists: bool,
        connect: Callable[[Any, str, Callable[..., Any]], None],
        on_video: Callable[[Any], None],
        on_video_gone: Callable[[Any], None],
        on_no_video: Callable[[], None],
    ) -> None:
        """``wanted``: as of ConnectionOptions.decoder. ``playlists``: follow them (HLS, DASH). ``live``:
        nobody asks what went into the decoder.

        ``connect(element, signal, callback)`` registers a signal handler. ``on_video(pad)`` comes once, and
        again after ``on_video_gone(pad)``: a transport stream may go on with another stream of video.
        Raises SourceError for an unknown decoder.
        """
        decoders.arrange(wanted)
        self._wanted = wanted
        self._live = live
        self._connect = connect
        self._playlists = playlists
        self._on_video = on_video
        self._on_video_gone = on_video_gone
        self._on_no_video = on_no_video
        self._exposed: Any = None
        self.tap: Tap | None = None
        """To be set before the element runs."""
        self.decoder = ""
        self.decoder_element: Any = None
        self.other_streams = 0
        """Decoded pads beside the one in use."""
        self.coded = Coded()
        """The decoder's input; of an MP4 as it comes out of the file, for behind the parser its durations are
        gone."""
        self._decoders: dict[Any, Coded] = {}
        self.demuxer = ""
        """The demuxer element in use; empty for a stream without a container."""
        self.element = make("decodebin")
        connect(self.element, "autoplug-continue", self._on_autoplug_continue)
        connect(self.element, "autoplug-select", self._on_autoplug_select)
        connect(self.element, "deep-element-added", self._on_deep_element)
        connect(self.element, "pad-added", self._on_pad)
        connect(self.element, "pad-removed", self._on_pad_removed)
        connect(self.element, "no-more-pads", self._on_no_more_pads)

    def let_go(self) -> None:
        """Forget the callbacks. Their owner holds this object: as a circle, both would stay until Python's
        collector comes by, and with them the pipeline, its memory and its open files."""
        self._exposed = self.tap = None
        self._decoders.clear()
        self._on_video = self._on_video_gone = self._on_no_video = self._connect = _nothing

    @property
    def exposed(self) -> bool:
        """True while there is decoded video."""
        return self._exposed is not None

    def describe(self, pad: Any) -> str:
        """``h264 640x360, decoder avdec_h264``, or ``raw 640x480``. Names the decoder ``none`` for raw."""
        codec = "raw"
        if self.decoder_element is not None:
            caps = self.decoder_element.get_static_pad("sink").get_current_caps()
            codec = codec_name(structure_of(caps, 0).get_name()) if caps is not None else ""
        elif not self.decoder:
            self.decoder = "none"
        text = f"{codec} {dimensions(pad)}"
        return text if self.decoder == "none" else f"{text}, decoder {self.decoder}"

    def _on_autoplug_continue(self, _element: Any, _pad: Any, caps: Any) -> bool:
        """Sound and subtitles are not decoded."""
        name = structure_of(caps, 0).get_name()
        return not name.startswith(("audio/", "text/", "subpicture/", "closedcaption/"))

    def _on_autoplug_select(self, _element: Any, _pad: Any, caps: Any, factory: Any) -> int:
        klass = factory.get_metadata("klass") or ""
        if "Decoder" in klass:
            return _TRY if self._wanted in ("auto", "software", factory.get_name()) else _SKIP
        # A file must not make this machine open network connections (playlists, SDP).
        if "Adaptive" in klass:
            return _TRY if self._playlists else _SKIP
        media_type = structure_of(caps, 0).get_name()
        return _SKIP if "Source" in klass or media_type == "application/sdp" else _TRY

    def _on_deep_element(self, decodebin: Any, parent: Any, element: Any) -> None:
        factory: Any = element.get_factory()
        if parent != decodebin or factory is None:  # something a decoder is made of
            return
        klass = factory.get_metadata("klass") or ""
        if "Demux" in klass:
            self.demuxer = factory.get_name()
            if self.demuxer == "qtdemux" and not self._live:
                self._connect(element, "pad-added", self._on_demuxed_pad)
        if self.tap is not None and "Parser" in klass:
            self.tap.watch_parser(element)
        if "Decoder" in klass and ("Video" in klass or "Image" in klass):
            self.decoder = factory.get_name()
            self.decoder_element = element
            if self.tap is not None:
                self.tap.watch_decoder(element)
            sink = element.get_static_pad("sink")
            if not self._live and self.demuxer != "qtdemux" and sink is not None:
                self.coded = self._decoders[element] = Coded()
                self.coded.watch(sink)

    def _on_demuxed_pad(self, _element: Any, pad: Any) -> None:
        if pad.get_name() == "video_0":
            self.coded.watch(pad)

    def _on_pad(self, _element: Any, pad: Any) -> None:
        caps = pad.get_current_caps() or pad.query_caps(None)
        if structure_of(caps, 0).get_name() == "video/x-raw" and self._exposed is None:
            self._exposed = pad
            target = pad.get_target()
            decoder = target.get_parent_element() if target is not None else None
            self.coded = self._decoders.get(decoder, self.coded)  # there may be one for another stream, too
            if self.tap is not None:
                self.tap.use_decoder(decoder)
            self._on_video(pad)
        else:
            self.other_streams += 1

    def _on_pad_removed(self, _element: Any, pad: Any) -> None:
        if pad == self._exposed:
            self._exposed = None
            self._on_video_gone(pad)

    def _on_no_more_pads(self, _element: Any) -> None:
        if self._exposed is None:
            self._on_no_video()


def _nothing(*_: Any) -> None:
    """Where callbacks lead once nobody listens."""


def dimensions(pad: Any) -> str:
    """``640x360``, as of the pad's current caps."""
    structure = structure_of(pad.get_current_caps(), 0)
    return f"{structure.get_value('width')}x{structure.get_value('height')}"
