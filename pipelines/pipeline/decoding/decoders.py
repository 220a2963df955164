"""Choose the decoders, and probe whether hardware decoders really decode.

A hardware decoder that can be constructed may still deliver nothing (driver missing, device busy, container
without the device node). So each is probed with a tiny built-in clip once per process; only those that
give a frame in time are preferred, the others are passed over and the software decoder is used.

Decoders are plug-ins of GStreamer, and its registry is the only one: whatever is installed is found by its
class and probed. Only memory that needs an element of its own to be read is listed here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import chain, load, make
from pipelines.pipeline.decoding.probe_clips import PROBE_CLIPS
from pipelines.sources.errors import codec_name

PROBE_TIMEOUT_S = 3.0

_DOWNLOADERS = {
    "memory:NVMM": ("nvvidconv", "nvvideoconvert"),
    "memory:CUDAMemory": ("cudadownload",),
    "memory:VAMemory": ("vapostproc",),
    "memory:VASurface": ("vaapipostproc",),
    "memory:GLMemory": ("gldownload",),
}
"""Elements that bring frames from a decoder's own memory into ordinary memory."""

_HARDWARE_NAMES = (
    *("nv", "v4l2", "omx", "vaapi", "va", "msdk", "qsv"),
    *("amf", "mpp", "vtdec", "d3d11", "mediacodec"),
)
_FIRST = 4096
_PREFERRED = 1024
"""Rank of hardware that passed its probe: above every decoder's own rank (software has 256)."""

_original_ranks: dict[str, int] = {}
_probed: dict[str, str] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class DecoderInfo:
    """One installed video decoder. ``probe``: ``works``, why it does not, or ``not tried``."""

    name: str
    long_name: str
    codecs: tuple[str, ...]
    hardware: bool
    rank: int
    probe: str

    @property
    def works(self) -> bool:
        return self.probe == "works"


def list_decoders(*, probe: bool = True, timeout_s: float = PROBE_TIMEOUT_S) -> list[DecoderInfo]:
    """Decoders for what cameras send (H.264, H.265, JPEG), best first. ``probe``: try each on a clip."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for media_type in PROBE_CLIPS:
        for factory in _factories_for(media_type):
            found.setdefault(factory.get_name(), (factory, []))[1].append(media_type)
    infos = [
        DecoderInfo(
            name,
            factory.get_metadata("long-name") or name,
            tuple(codec_name(media_type) for media_type in media_types),
            is_hardware(factory),
            factory.get_rank(),
            probe_decoder(name, media_types[0], timeout_s) if probe else "not tried",
        )
        for name, (factory, media_types) in found.items()
    ]
    return sorted(
        infos, key=lambda info: (not (info.works and info.hardware), not info.works, -info.rank, info.name)
    )


def is_hardware(factory: Any) -> bool:
    """By its class or, as some vendors leave that out, by its name."""
    return "Hardware" in (factory.get_metadata("klass") or "") or factory.get_name().startswith(
        _HARDWARE_NAMES
    )


def arrange(wanted: str = "auto") -> None:
    """Rank the installed decoders for the decodebins made next. Raises SourceError for an unknown name.

    ``auto``: hardware that passed its probe, then software, failed hardware never. ``software``: no hardware.
    A name: that decoder first. Ranks belong to the process (as with GST_PLUGIN_FEATURE_RANK). The parser in
    front of a decoder looks at them, too: passing over factories while decodebin plugs would not be enough.
    """
    found = {f.get_name(): (f, media_type) for media_type in PROBE_CLIPS for f in _factories_for(media_type)}
    if wanted not in ("auto", "software") and wanted not in found:
        raise SourceError(
            f"decoder {wanted}: not installed; use auto, software or one of {', '.join(sorted(found))}",
            permanent=True,
        )
    for name, (factory, media_type) in found.items():
        rank = _original_ranks.setdefault(name, factory.get_rank())
        if name == wanted:
            rank = _FIRST
        elif is_hardware(factory):
            works = wanted != "software" and probe_decoder(name, media_type) == "works"
            rank = _PREFERRED + min(rank, 255) if works else 0
        factory.set_rank(rank)


def probe_decoder(name: str, media_type: str, timeout_s: float = PROBE_TIMEOUT_S) -> str:
    """``works``, or why not in a few words. Each decoder is tried once per process."""
    with _lock:
        if name not in _probed:
            clip = PROBE_CLIPS.get(media_type)
            _probed[name] = _decode_clip(name, clip.caps, clip.data, timeout_s) if clip else "not tried"
        return _probed[name]


def _decode_clip(name: str, caps: str, data: bytes, timeout_s: float) -> str:
    """Feed the clip through the decoder alone and wait for one frame."""
    Gst = load().Gst
    pipeline = Gst.Pipeline.new(None)
    source = make("appsrc", caps=Gst.Caps.from_string(caps), format=Gst.Format.TIME)
    sink = make("fakesink", sync=False, **{"async": False})
    decoder = Gst.ElementFactory.make(name)
    if decoder is None:
        return "cannot be constructed"
    decoded = threading.Event()

    def on_buffer(_pad: Any, _info: Any) -> Any:
        decoded.set()
        return Gst.PadProbeReturn.OK

    try:
        chain(pipeline, [source, decoder, sink])
    except SourceError:
        return "cannot be linked"
    sink.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_buffer)
    try:
        if pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
            return "does not start"
        for index in range(4):  # a decoder may hold one frame back
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts = buffer.dts = index * 40 * Gst.MSECOND
            buffer.duration = 40 * Gst.MSECOND
            source.emit("push-buffer", buffer)
        source.emit("end-of-stream")
        kinds = Gst.MessageType.ERROR | Gst.MessageType.EOS
        message = pipeline.get_bus().timed_pop_filtered(int(timeout_s * Gst.SECOND), kinds)
        if decoded.is_set():
            return "works"
        if message is not None and message.type == Gst.MessageType.ERROR:
            return f"fails: {message.parse_error()[0].message.splitlines()[0]}"
        return "delivers no frame" if message is not None else f"no frame within {timeout_s:g} s"
    finally:
        pipeline.set_state(Gst.State.NULL)


def downloader_for(caps: Any) -> Any | None:
    """An element that copies frames of ``caps`` into ordinary memory; None when they are there already."""
    Gst = load().Gst
    features = caps.get_features(0)
    for memory, names in _DOWNLOADERS.items():
        if features is not None and features.contains(memory):
            for name in names:
                if (element := Gst.ElementFactory.make(name)) is not None:
                    return element
    return None


def _factories_for(media_type: str) -> list[Any]:
    """Installed video decoders that take ``media_type``, highest rank first."""
    Gst = load().Gst
    kind = Gst.ELEMENT_FACTORY_TYPE_DECODER | Gst.ELEMENT_FACTORY_TYPE_MEDIA_VIDEO
    kind |= Gst.ELEMENT_FACTORY_TYPE_MEDIA_IMAGE
    factories = Gst.ElementFactory.list_get_elements(kind, Gst.Rank.NONE)
    caps = Gst.Caps.new_empty_simple(media_type)
    fitting = Gst.ElementFactory.list_filter(factories, caps, Gst.PadDirection.SINK, False)
    return sorted(fitting, key=lambda factory: -factory.get_rank())
